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


def _declared(assembly):
    """Routes by method and path, without the catch-all of each path."""
    return {route: each for route, each in _routes(assembly).items() if route[0] != "ANY"}


def test_the_routes_and_who_may_call_them(assembly):
    routes = {route: each["AuthorizationType"] for route, each in _declared(assembly).items()}
    assert routes == {
        ("GET", "/health"): "NONE",
        ("POST", "/v1/decisions"): "CUSTOM",
        ("GET", "/v1/decisions/{id}"): "CUSTOM",
        ("POST", "/v1/events"): "AWS_IAM",
        ("GET", "/internal/decisions/{id}"): "AWS_IAM",
    }


def test_the_openapi_document_has_exactly_these_routes(assembly):
    kinds = {"merchantKey": "CUSTOM", "iam": "AWS_IAM"}
    documented = {
        (method.upper(), path): next((kinds[name] for each in operation["security"] for name in each), "NONE")
        for path, operations in openapi.document()["paths"].items()
        for method, operation in operations.items()
    }
    assert documented == {route: each["AuthorizationType"] for route, each in _declared(assembly).items()}


def test_every_other_method_of_a_declared_path_is_405_with_the_methods_that_it_takes(assembly):
    routes, methods = _routes(assembly), {}
    for method, path in _declared(assembly):
        methods.setdefault(path, []).append(method)
    assert {path for method, path in routes if method == "ANY"} == methods.keys()
    for path, allowed in methods.items():
        route = routes["ANY", path]
        assert route["AuthorizationType"] == "NONE"
        integration = route["Integration"]
        assert (integration["Type"], integration["PassthroughBehavior"]) == ("MOCK", "NEVER")
        assert {json.loads(each)["statusCode"] for each in integration["RequestTemplates"].values()} == {405}
        [answer] = integration["IntegrationResponses"]
        assert answer["StatusCode"] == "405"
        assert answer["ResponseParameters"] == {
            "method.response.header.Allow": f"'{', '.join(allowed)}'",
            "method.response.header.Content-Type": "'application/problem+json'",
        }
        problem = json.loads(answer["ResponseTemplates"]["application/json"])
        assert (problem["status"], problem["code"]) == (405, "method_not_allowed")
        assert problem["request_id"] == "$context.requestId"


def test_the_health_check_is_an_answer_of_the_gateway_that_needs_no_key_and_runs_nothing(assembly):
    route = _routes(assembly)["GET", "/health"]
    assert route.get("ApiKeyRequired", False) is False
    assert route["Integration"]["Type"] == "MOCK"
    [answer] = route["Integration"]["IntegrationResponses"]
    assert answer["StatusCode"] == "200"
    assert json.loads(answer["ResponseTemplates"]["application/json"]) == {"status": "ok"}


def test_a_401_says_which_scheme_to_use(assembly):
    headers = {
        each["Properties"]["ResponseType"]: each["Properties"]["ResponseParameters"]
        for each in assembly.resources("AWS::ApiGateway::GatewayResponse").values()
    }
    challenged = {
        kind
        for kind, named in headers.items()
        if named.get("gatewayresponse.header.WWW-Authenticate") == "'Bearer'"
    }
    assert challenged == {"UNAUTHORIZED"}


def test_each_merchant_has_a_throttle_and_a_quota_of_its_own_by_the_authorisers_word(assembly):
    [api] = assembly.resources("AWS::ApiGateway::RestApi").values()
    assert api["Properties"]["ApiKeySourceType"] == "AUTHORIZER"
    counted = {route: each.get("ApiKeyRequired", False) for route, each in _declared(assembly).items()}
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
    bodies = {
        kind: json.loads(answer["ResponseTemplates"]["application/json"]) for kind, answer in answers.items()
    }
    assert {kind: (int(answers[kind]["StatusCode"]), body["code"]) for kind, body in bodies.items()} == {
        "BAD_REQUEST_BODY": (400, "bad_request"),
        "BAD_REQUEST_PARAMETERS": (400, "bad_request"),
        "UNAUTHORIZED": (401, "unauthorized"),
        "ACCESS_DENIED": (403, "forbidden"),
        "INVALID_API_KEY": (403, "forbidden"),
        "INVALID_SIGNATURE": (403, "forbidden"),
        "EXPIRED_TOKEN": (403, "forbidden"),
        "MISSING_AUTHENTICATION_TOKEN": (404, "not_found"),
        "RESOURCE_NOT_FOUND": (404, "not_found"),
        "REQUEST_TOO_LARGE": (413, "too_large"),
        "UNSUPPORTED_MEDIA_TYPE": (415, "unsupported_media_type"),
        "THROTTLED": (429, "too_many_requests"),
        "QUOTA_EXCEEDED": (429, "quota_exceeded"),
        "INTEGRATION_TIMEOUT": (504, "timeout"),
        "DEFAULT_5XX": (500, "internal"),
    }
    for kind, answer in answers.items():
        headers = answer["ResponseParameters"]
        assert headers["gatewayresponse.header.Content-Type"] == "'application/problem+json'"
        body = bodies[kind]
        assert list(body) == ["type", "title", "status", "detail", "code", "field", "request_id"]
        assert body["status"] == int(answer["StatusCode"])
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
DecisionsTableName RegistryTableName MerchantsTableName EventBusName EventsQueueUrl EventsDlqUrl UndeliveredUrl StaleItemsUrl
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
