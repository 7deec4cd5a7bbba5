"""Network and keys: what every other stack stands on. Lives as long as the account.

Three private subnets without a way to the internet; AWS's services are reached through VPC endpoints.
"""

from typing import Any, Final

from troposphere import Equals, GetAtt, GetAZs, Not, Ref, Select, Sub, Template, ec2, kms, sns

from infra.blueprint import Blueprint, allow, arn, document, name

ZONES: Final = ("a", "b", "c")
INTERFACES: Final = (
    "kinesis-firehose",
    "kinesis-streams",
    "kms",
    "logs",
    "monitoring",
    "sagemaker.api",
    "sagemaker.runtime",
    "secretsmanager",
    "sts",
)
"""Services that containers, functions and jobs in the subnets speak with, besides S3 and DynamoDB."""

CACHE_PORT: Final = 6379
_TLS: Final = 443


def build() -> Template:
    """Return the template."""
    blueprint = Blueprint("network", "Tollgate: network and keys. Lives as long as the account.")
    octets = blueprint.parameter(
        "NetworkPrefix",
        "First two numbers of the VPC's /16.",
        AllowedPattern=r"^(10\.[0-9]{1,3}|172\.(1[6-9]|2[0-9]|3[01])|192\.168)$",
    )
    lists = {
        service: blueprint.parameter(
            f"{title}PrefixList", f"AWS's own prefix list of {title}.", AllowedPattern="^pl-[0-9a-f]+$"
        )
        for service, title in (("s3", "S3"), ("dynamodb", "DynamoDb"))
    }
    key = _key(blueprint)
    vpc = _vpc(blueprint, octets)
    table, private = _subnets(blueprint, vpc, octets)
    _flow_logs(blueprint, vpc, key)
    groups = _security_groups(blueprint, vpc, lists)
    _endpoints(blueprint, vpc, table, private, groups["Endpoints"])
    _topic(blueprint, key)
    blueprint.give("vpc-id", Ref(vpc))
    blueprint.give("key-arn", GetAtt(key, "Arn"))
    for zone, subnet in zip(ZONES, private, strict=True):
        blueprint.give(f"private-subnet-{zone}", Ref(subnet))
    for role in ("scorer", "stream", "jobs", "cache"):
        blueprint.give(f"{role}-group", GetAtt(groups[role.capitalize()], "GroupId"))
    return blueprint.finish()


def _key(blueprint: Blueprint) -> Any:
    administrators = {
        "Sid": "AccountDecidesByIam",
        "Effect": "Allow",
        "Principal": {"AWS": Sub("arn:${AWS::Partition}:iam::${AWS::AccountId}:root")},
        "Action": "kms:*",
        "Resource": "*",
    }
    crypto = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
    logs = {
        "Sid": "Logs",
        "Effect": "Allow",
        "Principal": {"Service": Sub("logs.${AWS::Region}.amazonaws.com")},
        "Action": [*crypto, "kms:DescribeKey"],
        "Resource": "*",
        "Condition": {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": arn("logs", "log-group:*")}},
    }
    services = {
        "Sid": "AlarmsAndEvents",
        "Effect": "Allow",
        "Principal": {"Service": ["cloudwatch.amazonaws.com", "events.amazonaws.com"]},
        "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
        "Resource": "*",
        "Condition": {"StringEquals": {"aws:SourceAccount": Ref("AWS::AccountId")}},
    }
    key = blueprint.add(
        kms.Key(
            "DataKey",
            Description="Encrypts everything Tollgate keeps or sends.",
            EnableKeyRotation=True,
            KeyPolicy=document(administrators, logs, services),
            PendingWindowInDays=30,
            DeletionPolicy="RetainExceptOnCreate",
            UpdateReplacePolicy="Retain",
        )
    )
    blueprint.add(kms.Alias("DataKeyAlias", AliasName=Sub("alias/tollgate-${Environment}"), TargetKeyId=Ref(key)))
    return key


def _topic(blueprint: Blueprint, key: Any) -> None:
    email = blueprint.parameter("AlarmEmail", "Who is told of alarms; empty for nobody.", Default="")
    topic = blueprint.add(sns.Topic("Alarms", TopicName=name("alarms"), KmsMasterKeyId=GetAtt(key, "Arn")))
    speakers = {
        "Sid": "AlarmsAndEvents",
        "Effect": "Allow",
        "Principal": {"Service": ["cloudwatch.amazonaws.com", "events.amazonaws.com"]},
        "Action": "sns:Publish",
        "Resource": Ref(topic),
        "Condition": {"StringEquals": {"aws:SourceAccount": Ref("AWS::AccountId")}},
    }
    blueprint.add(sns.TopicPolicy("AlarmsPolicy", Topics=[Ref(topic)], PolicyDocument=document(speakers)))
    wanted = blueprint.condition("SomebodyIsTold", Not(Equals(email, "")))
    told = sns.SubscriptionResource(
        "AlarmMail", TopicArn=Ref(topic), Protocol="email", Endpoint=email, Condition=wanted
    )
    blueprint.add(told)
    blueprint.give("alarm-topic", Ref(topic))


def _vpc(blueprint: Blueprint, octets: Ref) -> Any:
    return blueprint.add(
        ec2.VPC(
            "Vpc",
            CidrBlock=Sub("${Prefix}.0.0/16", Prefix=octets),
            EnableDnsHostnames=True,
            EnableDnsSupport=True,
        )
    )


def _subnets(blueprint: Blueprint, vpc: Any, octets: Ref) -> tuple[Any, list[Any]]:
    table = blueprint.add(ec2.RouteTable("PrivateRoutes", VpcId=Ref(vpc)))
    private = []
    for index, zone in enumerate(ZONES):
        subnet = ec2.Subnet(
            f"PrivateSubnet{zone.upper()}",
            AvailabilityZone=Select(index, GetAZs("")),
            CidrBlock=Sub(f"${{Prefix}}.{index * 16}.0/20", Prefix=octets),
            MapPublicIpOnLaunch=False,
            VpcId=Ref(vpc),
        )
        private.append(blueprint.add(subnet))
        association = f"PrivateSubnet{zone.upper()}Routes"
        blueprint.add(ec2.SubnetRouteTableAssociation(association, RouteTableId=Ref(table), SubnetId=Ref(subnet)))
    return table, private


def _flow_logs(blueprint: Blueprint, vpc: Any, key: Any) -> None:
    group = blueprint.log_group("FlowLogGroup", name("flow-logs"), GetAtt(key, "Arn"))
    role = blueprint.role(
        "FlowLogRole",
        "flow-logs",
        "vpc-flow-logs",
        [
            allow(
                "Write",
                ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
                [GetAtt(group, "Arn")],
            )
        ],
    )
    blueprint.add(
        ec2.FlowLog(
            "FlowLog",
            DeliverLogsPermissionArn=GetAtt(role, "Arn"),
            LogGroupName=Ref(group),
            ResourceId=Ref(vpc),
            ResourceType="VPC",
            TrafficType="ALL",
        )
    )


def _security_groups(blueprint: Blueprint, vpc: Any, lists: dict[str, Ref]) -> dict[str, Any]:
    """Add the groups; each may speak only with the cache, the VPC endpoints, S3 and DynamoDB."""
    abouts = {
        "Scorer": "Instances of the endpoint.",
        "Stream": "Lambda function of the stream.",
        "Jobs": "Processing and training jobs.",
        "Cache": "The online store.",
        "Endpoints": "Interface endpoints of AWS services.",
    }
    groups = {
        title: blueprint.add(
            ec2.SecurityGroup(
                f"{title}Group",
                GroupDescription=about,
                VpcId=Ref(vpc),
                # Without a rule of its own a group may reach everything; this one reaches nothing.
                SecurityGroupEgress=[_nowhere()],
            )
        )
        for title, about in abouts.items()
    }
    for title in ("Scorer", "Stream", "Jobs"):
        group = groups[title]
        for target, port in (("Cache", CACHE_PORT), ("Endpoints", _TLS)):
            _open(blueprint, title, target, group, groups[target], port)
        for service, prefix_list in lists.items():
            blueprint.add(
                ec2.SecurityGroupEgress(
                    f"{title}To{service.capitalize()}",
                    Description=f"{title} to {service}",
                    GroupId=GetAtt(group, "GroupId"),
                    IpProtocol="tcp",
                    FromPort=_TLS,
                    ToPort=_TLS,
                    DestinationPrefixListId=prefix_list,
                )
            )
    return groups


def _nowhere() -> Any:
    return ec2.SecurityGroupRule(CidrIp="127.0.0.1/32", Description="Nowhere", IpProtocol="tcp", FromPort=1, ToPort=1)


def _open(blueprint: Blueprint, source: str, target: str, from_group: Any, to_group: Any, port: int) -> None:
    ports = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "Description": f"{source} to {target.lower()}"}
    out = ec2.SecurityGroupEgress(
        f"{source}To{target}",
        GroupId=GetAtt(from_group, "GroupId"),
        DestinationSecurityGroupId=GetAtt(to_group, "GroupId"),
        **ports,
    )
    into = ec2.SecurityGroupIngress(
        f"{target}From{source}",
        GroupId=GetAtt(to_group, "GroupId"),
        SourceSecurityGroupId=GetAtt(from_group, "GroupId"),
        **ports,
    )
    blueprint.add(out)
    blueprint.add(into)


def _endpoints(blueprint: Blueprint, vpc: Any, table: Any, private: list[Any], group: Any) -> None:
    for service, title in (("s3", "S3"), ("dynamodb", "DynamoDb")):
        blueprint.add(
            ec2.VPCEndpoint(
                f"{title}Endpoint",
                VpcEndpointType="Gateway",
                ServiceName=Sub(f"com.amazonaws.${{AWS::Region}}.{service}"),
                VpcId=Ref(vpc),
                RouteTableIds=[Ref(table)],
                PolicyDocument=_own_account(f"{service}:*"),
            )
        )
    for service in INTERFACES:
        title = "".join(part.capitalize() for part in service.replace(".", "-").split("-"))
        blueprint.add(
            ec2.VPCEndpoint(
                f"{title}Endpoint",
                VpcEndpointType="Interface",
                ServiceName=Sub(f"com.amazonaws.${{AWS::Region}}.{service}"),
                VpcId=Ref(vpc),
                SubnetIds=[Ref(subnet) for subnet in private],
                SecurityGroupIds=[GetAtt(group, "GroupId")],
                PrivateDnsEnabled=True,
            )
        )


def _own_account(actions: str) -> dict[str, Any]:
    """Return a policy by which an endpoint carries only this account's callers to this account's resources."""
    account = {"aws:ResourceAccount": Ref("AWS::AccountId"), "aws:PrincipalAccount": Ref("AWS::AccountId")}
    statement = {"Sid": "OwnAccount", "Effect": "Allow", "Principal": {"AWS": "*"}, "Action": actions, "Resource": "*"}
    return document({**statement, "Condition": {"StringEquals": account}})
