"""The CDK app: one stack per logical unit, wired by `stacks.application`."""
