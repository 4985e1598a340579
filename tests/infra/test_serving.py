"""The API's routes, who may call them, and what the gateway itself answers."""

import json
from pathlib import Path

from candor.edge import openapi

ROOT = Path(__file__).resolve().parents[2]


def _routes(assembly):
    parts = {
        key.partition("/")[2]: each["Properties"]
        for key, each in assembly.resources("AWS::ApiGateway::Resource").items()
    }

    def path(logical_id):
        if logical_id not in parts:
            return ""
        return path(parts[logical_id]["ParentId"].get("Ref")) + "/" + parts[logical_id]["PathPart"]

    methods = [each["Properties"] for each in assembly.resources("AWS::ApiGateway::Method").values()]
    return {(each["HttpMethod"], path(each["ResourceId"]["Ref"])): each for each in methods}


def test_the_routes_and_who_may_call_them(assembly):
    routes = {route: each["AuthorizationType"] for route, each in _routes(assembly).items()}
    assert routes == {
        ("POST", "/v1/decisions"): "CUSTOM",
        ("GET", "/v1/decisions/{id}"): "CUSTOM",
        ("POST", "/v1/events"): "AWS_IAM",
        ("GET", "/internal/decisions/{id}"): "AWS_IAM",
    }


def test_the_openapi_document_has_exactly_these_routes(assembly):
    documented = {
        (method.upper(), path): "AWS_IAM" if operation["security"] == [{"iam": []}] else "CUSTOM"
        for path, operations in openapi.document()["paths"].items()
        for method, operation in operations.items()
    }
    assert documented == {route: each["AuthorizationType"] for route, each in _routes(assembly).items()}


def test_each_merchant_has_a_throttle_and_a_quota_of_its_own_by_the_authorisers_word(assembly):
    [api] = assembly.resources("AWS::ApiGateway::RestApi").values()
    assert api["Properties"]["ApiKeySourceType"] == "AUTHORIZER"
    counted = {route: each.get("ApiKeyRequired", False) for route, each in _routes(assembly).items()}
    assert counted == {route: route[1].startswith("/v1/decisions") for route in counted}
    [plan] = assembly.resources("AWS::ApiGateway::UsagePlan").values()
    stages = json.loads((ROOT / "cdk.json").read_text("utf-8"))["context"]["stages"]
    settings = stages[assembly.stage]
    assert plan["Properties"]["Throttle"] == {
        "RateLimit": settings["merchant_requests_per_second"],
        "BurstLimit": settings["merchant_requests_burst"],
    }
    assert plan["Properties"]["Quota"] == {"Limit": settings["merchant_requests_per_day"], "Period": "DAY"}
    [(stage, _)] = assembly.resources("AWS::ApiGateway::Stage").items()
    [attached] = plan["Properties"]["ApiStages"]
    assert attached["Stage"] == {"Ref": stage.partition("/")[2]}


def test_a_checkout_reaches_the_live_version_of_the_scorer(assembly):
    integration = _routes(assembly)["POST", "/v1/decisions"]["Integration"]
    assert integration["Type"] == "AWS_PROXY"
    [(key, alias)] = assembly.resources("AWS::Lambda::Alias").items()
    assert alias["Properties"]["Name"] == "live"
    assert f"/functions/<{key.partition('/')[2]}>/invocations" in assembly.plain(integration["Uri"])


def test_merchant_keys_are_checked_and_remembered_for_a_minute(assembly):
    [authorizer] = assembly.resources("AWS::ApiGateway::Authorizer").values()
    properties = authorizer["Properties"]
    assert properties["Type"] == "REQUEST"
    assert properties["IdentitySource"] == "method.request.header.Authorization"
    assert properties["AuthorizerResultTtlInSeconds"] == 60


def test_the_gateways_own_answers_are_problems(assembly):
    answers = {
        each["Properties"]["ResponseType"]: each["Properties"]
        for each in assembly.resources("AWS::ApiGateway::GatewayResponse").values()
    }
    codes = {kind: int(answers[kind]["StatusCode"]) for kind in answers}
    assert codes["UNAUTHORIZED"] == 401
    assert codes["ACCESS_DENIED"] == 403
    assert codes["MISSING_AUTHENTICATION_TOKEN"] == 404
    assert codes["INVALID_API_KEY"] == 403
    assert codes["THROTTLED"] == codes["QUOTA_EXCEEDED"] == 429
    assert codes["DEFAULT_5XX"] == 500
    for kind, answer in answers.items():
        headers = answer["ResponseParameters"]
        assert headers["gatewayresponse.header.Content-Type"] == "'application/problem+json'"
        body = json.loads(answer["ResponseTemplates"]["application/json"])
        assert list(body) == ["type", "title", "status", "detail", "code", "field", "request_id"]
        assert body["status"] == codes[kind]
        assert body["request_id"] == "$context.requestId"


def test_the_stage_is_throttled_logged_and_never_logs_a_body(assembly):
    [stage] = assembly.resources("AWS::ApiGateway::Stage").values()
    [settings] = stage["Properties"]["MethodSettings"]
    assert settings["ThrottlingRateLimit"] > 0
    assert settings["ThrottlingBurstLimit"] > 0
    assert settings["DataTraceEnabled"] is False
    fields = json.loads(stage["Properties"]["AccessLogSetting"]["Format"])
    assert not [value for value in fields.values() if "body" in value.lower() or "sourceIp" in value]


def test_a_version_stays_when_the_next_one_comes(assembly):
    [version] = assembly.resources("AWS::Lambda::Version").values()
    assert version["DeletionPolicy"] == "Retain"


OUTPUTS = """
ApiUrl MerchantsUsagePlanId FeaturesTableName SynchronousFeaturesTableName RedeliveryHorizonDays
DecisionsTableName RegistryTableName MerchantsTableName EventBusName EventsQueueUrl EventsDlqUrl StaleItemsUrl
StaleItemsDlqUrl SparkApplicationId SparkRoleArn StreamsDlqUrl ArchiveBucketName BundlesBucketName
TrainingBucketName RetrainStateMachineArn RescoreStateMachineArn Promotion PromotionApproval CanaryShares
""".split()


def test_outputs_carry_the_names_that_clients_read(assembly):
    named = [
        name
        for template in assembly.templates.values()
        for name, output in template.get("Outputs", {}).items()
        if "Export" not in output
    ]
    assert sorted(named) == sorted(OUTPUTS)
