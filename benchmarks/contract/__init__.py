"""Does the running API keep its OpenAPI document?"""
