"""REST: `stacks`, `deploys`."""

import functools
from typing import Any

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.response import Response

from dockmesh.core.errors import Conflict, InvalidInput, NotFound
from dockmesh.core.filters import BooleanFilter, FilterSet, ReferenceFilter, TextFilter, refuse_unknown
from dockmesh.core.viewsets import ServiceViewSet, operation
from dockmesh.deploys import selectors, services, surveys
from dockmesh.deploys.adoption import SurveyNeeded
from dockmesh.deploys.models import Deploy
from dockmesh.deploys.serializers import (
    AdoptSerializer,
    ConfirmedSerializer,
    DeployDetailSerializer,
    DeploySerializer,
    StackChangeSerializer,
    StackCreateSerializer,
    StackDetailSerializer,
    StackSerializer,
    SurveySerializer,
)
from dockmesh.fleet.selectors import in_shown_state
from dockmesh.fleet.states import StackState
from tokens.permissions import Permission

# An agent is heard every 15 s unless told otherwise; a server that stops gives requests 20 s.
SURVEY_WAIT_SECONDS = 18.0

# What an agent does: 202 with the deploy.
deploy_operation = functools.partial(
    operation,
    Permission.STACKS_DEPLOY,
    answer=DeployDetailSerializer,
    status=202,
    location="deploys-detail",
)


class StackFilter(FilterSet):
    """Filters of stacks."""

    host = ReferenceFilter("host_id", "host__name", help_text="Of this host: its id or name.")
    name = TextFilter(help_text="With exactly this name.")
    state = TextFilter(choices=list(StackState), condition=in_shown_state, help_text="In this state.")
    is_managed = BooleanFilter(help_text="Managed (true) or discovered (false).")


class StackViewSet(ServiceViewSet[Any]):
    """Stacks by name, managed or discovered."""

    noun = "stack"
    queryset = selectors.stacks().order_by("name", "host_id", "pk")
    serializer_class = StackSerializer
    detail_serializer_class = StackDetailSerializer
    filterset_class = StackFilter
    read_permission = Permission.FLEET_READ

    def completed(self, page: Any) -> list[selectors.StackView]:
        """With their last deploys."""
        return selectors.complete(page)

    def one(self, id: int) -> selectors.StackView:
        """With its files, for whoever may read them."""
        if (view := selectors.detailed(id)) is None:
            raise NotFound("There is no such stack.")
        return view if selectors.may_read(self.principal) else view.without_files()

    @operation(Permission.STACKS_DEPLOY, body=StackCreateSerializer)
    def create(self, **values: Any) -> selectors.StackView:
        """Store a new managed stack; `POST /api/v1/stacks/{id}/deploy` starts it."""
        return self.one(services.create_stack(actor=self.actor, **values).pk)

    @operation(Permission.STACKS_DEPLOY, body=StackChangeSerializer)
    def change(self, id: int, **values: Any) -> selectors.StackView:
        """Change the files of a managed stack; what runs is not touched before the next deploy."""
        if "env_file" in values:
            values["env_file"] = values["env_file"] or ""
        services.change_stack(actor=self.actor, stack_id=id, **values)
        return self.one(id)

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "forget",
                str,
                description="`true`: leave the host alone, whatever runs there.",
                enum=["true", "false"],
            )
        ],
        responses={
            202: DeployDetailSerializer,
            204: OpenApiResponse(description="Forgotten; nothing was asked of the host."),
        },
    )
    @deploy_operation()
    def remove(self, id: int) -> Deploy | Response:
        """Take the stack down on its host and then remove it here: 202 with the deploy that does it.

        Volumes stay. With `?forget=true` it is only removed here, at once: 204.
        """
        params = self.request.query_params
        refuse_unknown(params, ["forget"])
        forget = params.get("forget", "false")
        if forget not in ("true", "false"):
            raise InvalidInput("forget", "must be true or false.")
        if forget == "false":
            return services.remove_stack(actor=self.actor, stack_id=id)
        services.forget_stack(actor=self.actor, stack_id=id)
        return Response(status=204)

    @deploy_operation(body=ConfirmedSerializer, is_body_optional=True)
    def deploy(self, id: int, *, remove: list[str]) -> Deploy:
        """Deploy the stack, or deploy it again: 202 with the deploy.

        409 while another one of it runs, or where its host can't do it. What would be removed has to be confirmed
        in `remove`; else the deploy ends as a failure, with `removes`, before anything is changed.
        """
        return services.request_deploy(actor=self.actor, stack_id=id, remove=remove)

    @deploy_operation(summary="Preview a deploy")
    def preview(self, id: int) -> Deploy:
        """What a deploy would do: 202 with a deploy of the operation `preview`.

        Once that has ended, `output` has what Compose would do, `removes` what has to be confirmed, `diff` the lines
        of the Compose file that changed. 409 while another one of the stack runs.
        """
        return services.request_preview(actor=self.actor, stack_id=id)

    @deploy_operation()
    def stop(self, id: int) -> Deploy:
        """Stop the stack's containers; they stay. 202 with the deploy that does it, 409 while another runs."""
        return self._request(id, Deploy.Operation.STOP)

    @deploy_operation()
    def restart(self, id: int) -> Deploy:
        """Restart the stack's containers: 202 with the deploy that does it, 409 while another runs."""
        return self._request(id, Deploy.Operation.RESTART)

    @deploy_operation(summary="Check a stack with Compose")
    def validate(self, id: int) -> Deploy:
        """Have the host's Compose read the stack's files; nothing is touched.

        202 with the deploy whose `output` will have Compose's words, 409 while another operation runs.
        """
        return self._request(id, Deploy.Operation.VALIDATE)

    def _request(self, id: int, asked: Deploy.Operation) -> Deploy:
        return services.request_deploy(actor=self.actor, stack_id=id, operation=asked)

    @operation(Permission.STACKS_DEPLOY, answer=SurveySerializer, status=202, location="stacks-survey")
    def survey(self, id: int) -> dict[str, Any]:
        """Have the agent read the stack's files, from where Compose's labels say it was started: 202."""
        return surveys.view(surveys.request_survey(actor=self.actor, stack_id=id))

    @operation(
        (Permission.STACKS_READ, Permission.STACKS_DEPLOY),
        method="get",
        beside=survey,
        answer=SurveySerializer,
        summary="Show a stack's survey",
    )
    def read_survey(self, id: int) -> dict[str, Any]:
        """The latest survey of a discovered stack; 404 before the first."""
        survey = surveys.latest(id)
        if survey is None:
            raise NotFound("This stack was not surveyed.")
        return surveys.view(survey)

    @operation(Permission.STACKS_DEPLOY, body=AdoptSerializer)
    def adopt(self, id: int, **values: Any) -> selectors.StackView:
        """Manage a discovered stack; nothing is deployed.

        Without a Compose file it is managed by the files that it was started from. Where these, or what relative
        paths mean, have to be read on the host first, the answer takes as long as the agent does, at most
        18 seconds. 409 names what the user has to decide: each path whose meaning would change.
        """
        adopt = functools.partial(services.adopt_stack, actor=self.actor, stack_id=id, **values)
        try:
            adopt()
        except SurveyNeeded as needed:
            self._survey_now(id, needed)
            adopt()
        return self.one(id)

    def _survey_now(self, id: int, needed: SurveyNeeded) -> None:
        """Have the stack surveyed, and wait for that; raises `Conflict` that says what that leaves open."""
        try:
            survey = surveys.request_survey(actor=self.actor, stack_id=id)
        except Conflict as refusal:
            raise Conflict(f"{refusal.detail} {needed.detail}") from None
        survey = surveys.wait(survey, seconds=SURVEY_WAIT_SECONDS)
        if survey.error:
            raise Conflict(f"The files could not be read: {survey.error}. {needed.detail}")


class DeployFilter(FilterSet):
    """Filters of deploys."""

    stack = ReferenceFilter("stack_id", "stack_name", help_text="Of this stack: its id or name.")
    host = TextFilter("host_name", help_text="On the host of this name.")
    status = TextFilter(choices=Deploy.Status.values, help_text="In this state.")
    operation = TextFilter(choices=Deploy.Operation.values, help_text="Of this kind.")


class DeployViewSet(ServiceViewSet[Deploy]):
    """Deploys, the newest first."""

    noun = "deploy"
    queryset = Deploy.objects.order_by("-pk")
    deferred = selectors.LARGE
    serializer_class = DeploySerializer
    detail_serializer_class = DeployDetailSerializer
    filterset_class = DeployFilter
    read_permission = Permission.FLEET_READ

    def read(self, *args: Any, **where: Any) -> Response:
        """One deploy; for whoever has `stacks.read` with its output so far and the Compose files as deployed."""
        answer = super().read(*args, **where)
        if not selectors.may_read(self.principal):
            answer.data |= dict.fromkeys(("compose_file", "override_files", "diff", "output"))
        return answer

    @deploy_operation(body=ConfirmedSerializer, is_body_optional=True, summary="Roll back to a deploy")
    def rollback(self, id: int, *, remove: list[str]) -> Deploy:
        """Deploy the files and images of this earlier, successful deploy again: 202 with the new deploy."""
        return services.roll_back(actor=self.actor, deploy_id=id, remove=remove)

    @deploy_operation()
    def cancel(self, id: int) -> Deploy:
        """Cancel a deploy: 202 with it.

        One that waits is `cancelled` at once. One that its agent has begun is broken off there: while images are
        fetched nothing has changed yet, after that the stack stays as far as it got; `is_changed` tells. 409 where
        it has ended.
        """
        return services.cancel_deploy(actor=self.actor, deploy_id=id)
