"""The API's routes, who may call them, and what the gateway itself answers."""

import json


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
    assert routes == {("POST", "/v1/decisions"): "CUSTOM", ("POST", "/v1/events"): "AWS_IAM"}


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
    assert codes["THROTTLED"] == 429
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


OUTPUTS = """ApiUrl FeaturesTableName SynchronousFeaturesTableName FeatureRetentionDays RedeliveryHorizonDays DecisionsTableName
RegistryTableName MerchantsTableName EventBusName
EventsQueueUrl EventsDlqUrl StreamsDlqUrl ArchiveBucketName BundlesBucketName TrainingBucketName RetrainStateMachineArn
RescoreStateMachineArn PromotionApproval CanaryShares""".split()


def test_outputs_carry_the_names_that_clients_read(assembly):
    named = [
        name
        for template in assembly.templates.values()
        for name, output in template.get("Outputs", {}).items()
        if "Export" not in output
    ]
    assert sorted(named) == sorted(OUTPUTS)
