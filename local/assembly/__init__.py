"""The cloud assembly: the templates of `cdk.out`."""
