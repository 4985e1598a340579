"""Reading the cloud assembly: the templates in `cdk.out`."""
