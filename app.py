"""Synthesize the CDK app: `python app.py [-c stage=prod]`, or through the CDK CLI."""

import os
import signal
import sys
from pathlib import Path

from stacks import toolchain

signal.signal(
    signal.SIGINT, signal.SIG_DFL
)  # Ctrl-C ends without a traceback; the next synthesis starts afresh
toolchain.prepare()  # before the first import of aws_cdk, which starts Node

import aws_cdk as cdk  # noqa: E402
from cdk_nag import AwsSolutionsChecks  # noqa: E402

from stacks.acknowledgements import acknowledge  # noqa: E402
from stacks.application import build  # noqa: E402
from stacks.constructs.layer_build import LayerBuildError  # noqa: E402
from stacks.settings import SettingsError  # noqa: E402


def main() -> None:
    """Write the assembly of one stage; an unacknowledged finding of cdk-nag stops it."""
    context = toolchain.context(sys.argv[1:])
    with toolchain.exclusive(Path(os.environ["CDK_OUTDIR"])):
        app = cdk.App(context=context, analytics_reporting=False)
        acknowledge(app, build(app).settings)
        cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
        app.synth()


if __name__ == "__main__":
    try:
        main()
    except (SettingsError, LayerBuildError) as error:
        raise SystemExit(f"synthesis stopped: {error}") from None
