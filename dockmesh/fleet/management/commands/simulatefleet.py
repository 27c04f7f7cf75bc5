"""`manage.py simulatefleet`: a fleet of simulated agents, for trying things out, demos and load."""

import datetime
import secrets
import signal
import threading
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from dockmesh.audit.services import SYSTEM
from dockmesh.core import clock, lifecycle
from dockmesh.core.commandline import complain_in_one_line
from dockmesh.env import digits
from dockmesh.fleet import services
from dockmesh.fleet.models import EnrollmentToken, Host
from dockmesh.fleet.simulation.agent import Client, Refused, SimulatedAgent, Unreachable
from dockmesh.fleet.simulation.operator import Operator
from dockmesh.fleet.simulation.run import run
from dockmesh.fleet.simulation.world import make_hosts
from tokens import secret
from tokens.principals import SYSTEM as SYSTEM_PRINCIPAL
from tokens.selectors import tokens_named
from tokens.services import create_token, delete_token

# What each simulated host carries, and by what it is known again.
LABEL = {"simulated": "yes"}
TOKEN_NAME = "simulatefleet "


class Command(BaseCommand):
    """Enrols the hosts, then lets their agents report until Ctrl-C or the end of `--duration`."""

    help = (
        "Simulates a fleet whose agents speak the real protocol over HTTP, and an operator who asks for deploys"
        " and backups. The enrollment token lets the first host in; the tokens of the others are made with"
        " --api-token, or without it straight in the server's database, which this command then has to share."
        " It acts on the hosts that it enrolled itself and on nothing else; --remove takes away what is left of"
        " earlier runs."
    )

    _shares_database = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The size of the fleet and where it reports."""
        complain_in_one_line(parser)
        parser.add_argument("--server", metavar="URL", help="the dockmesh server")
        parser.add_argument("--enrollment-token", metavar="T", help="for the first host")
        parser.add_argument(
            "--remove",
            action="store_true",
            help="remove the hosts of earlier runs with all that belongs to them, straight in the database; no other",
        )
        parser.add_argument(
            "--api-token",
            metavar="T",
            help="of the role operator: makes the other hosts' tokens, asks for deploys and backups",
        )
        parser.add_argument(
            "--no-work", action="store_true", help="no deploys and backups: the hosts only report"
        )
        parser.add_argument("--hosts", type=_number(1, 10_000), default=50)
        parser.add_argument("--containers", type=_number(0, 5000), default=20, help="of each host")
        parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same fleet")
        parser.add_argument("--duration", type=_number(1, 10**9), metavar="SECONDS", help="default: for ever")
        parser.add_argument(
            "--interval", type=_number(1, 3600), metavar="SECONDS", help="default: what the server asks for"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Returns after Ctrl-C, SIGTERM or the duration."""
        if options["remove"]:
            self._remove()
            return
        for option in ("server", "enrollment_token"):
            if not options[option]:
                raise CommandError(f"--{option.replace('_', '-')} is required")
        _refuse_renewal(options["enrollment_token"])
        stop = threading.Event()
        try:
            agents = self._enroll(options)
        except KeyboardInterrupt:
            return
        lifecycle.stop_at((signal.SIGINT, signal.SIGTERM), stop.set)
        with self._operator_token(options) as token:
            operator = threading.Thread(
                target=self._operate, args=(options, token, agents, stop), daemon=True
            )
            operator.start()
            tally = run(
                agents,
                server=options["server"],
                duration_seconds=options["duration"],
                interval_seconds=options["interval"],
                say=self._say,
                stop=stop,
            )
            operator.join(timeout=35)
        self._say(
            f"stopped: {tally.heartbeats} heartbeats, {tally.refused} refused, {tally.unreachable} lost"
        )

    def _operate(
        self, options: dict[str, Any], token: str, agents: list[SimulatedAgent], stop: threading.Event
    ) -> None:
        if token:
            host_ids = [agent.host_id for agent in agents]
            operator = Operator(
                options["server"], token, host_ids=host_ids, seed=options["seed"], say=self._say
            )
            operator.run(stop)

    def _remove(self) -> None:
        """Remove the hosts that carry the simulation's label, and the tokens of runs that were killed."""
        for host_id, name in simulated_hosts():
            services.remove_host(actor=SYSTEM, host_id=host_id)
            self._say(f"removed {name}")
        for token_id, name in _left_tokens():
            delete_token(principal=SYSTEM_PRINCIPAL, token_id=token_id)
            self._say(f"removed the token {name}")

    @contextmanager
    def _operator_token(self, options: dict[str, Any]) -> Iterator[str]:
        """The token that was given, or one for as long as this runs; "" where nothing is to be asked for."""
        if options["no_work"] or options["api_token"] or not self._shares_database:
            yield "" if options["no_work"] else options["api_token"] or ""
            return
        issued = create_token(
            principal=SYSTEM_PRINCIPAL,
            name=f"{TOKEN_NAME}{secrets.token_hex(4)}",
            role="operator",
            expires_at=clock.now() + datetime.timedelta(days=1),
        )
        try:
            yield issued.text
        finally:
            delete_token(principal=SYSTEM_PRINCIPAL, token_id=issued.token.pk)

    def _enroll(self, options: dict[str, Any]) -> list[SimulatedAgent]:
        try:
            client = Client(options["server"])
        except ValueError as error:
            raise CommandError(str(error)) from None
        worlds = make_hosts(hosts=options["hosts"], containers=options["containers"], seed=options["seed"])
        tokens = self._tokens(client, options)
        agents: list[SimulatedAgent] = []
        try:
            for world in worlds:
                labels = {**LABEL, "role": world.name.split("-")[0]}
                answer = client.post(
                    "agents/enroll", {"hostname": world.name, "labels": labels}, token=next(tokens)
                )
                agents.append(
                    SimulatedAgent(
                        world,
                        answer["agent_token"],
                        host_id=answer["host"]["id"],
                        interval_seconds=answer["heartbeat_interval_seconds"],
                    )
                )
                if len(agents) == 1:
                    self._shares_database = _is_ours(answer["host"])
                if not (self._shares_database or options["api_token"]) and len(worlds) > 1:
                    raise CommandError(
                        "this command does not use the server's database, so it can't make enrollment tokens"
                        " for more than one host: set the server's DOCKMESH_ variables, or give --api-token"
                    )
        except (Refused, Unreachable) as error:
            raise CommandError(f"{options['server']}: host {world.name} can't enrol: {error}") from None
        client.close()
        self._say(
            f"{len(agents)} hosts enrolled, {sum(len(agent.host.containers) for agent in agents)} containers"
        )
        return agents

    def _tokens(self, client: Client, options: dict[str, Any]) -> Iterator[str]:
        """The token that was given, then as many more as are asked for."""
        yield options["enrollment_token"]
        while True:
            if options["api_token"]:
                body = {"expires_in_seconds": 3600}
                yield str(client.post("enrollment-tokens", body, token=options["api_token"])["token"])
            else:
                yield services.create_enrollment_token(actor=SYSTEM)[1]

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def simulated_hosts() -> list[tuple[int, str]]:
    """The hosts that earlier runs have left, by name."""
    rows = Host.objects.order_by("name").values_list("pk", "name", "labels")
    return [(pk, name) for pk, name, labels in rows if LABEL.items() <= labels.items()]


def _left_tokens() -> list[tuple[int, str]]:
    return tokens_named(f"^{TOKEN_NAME}[0-9a-f]{{8}}$", created_by=SYSTEM.name)


def _refuse_renewal(token: str) -> None:
    """A token for a known host would put a simulated agent in the place of the real one, as far as can be told."""
    text = secret.parse(token)
    try:
        is_renewal = (
            text and EnrollmentToken.objects.filter(public_id=text.public_id, is_renewal=True).exists()
        )
    except DatabaseError:
        return
    if is_renewal:
        raise CommandError("the enrollment token is for a known host, which a simulated one must not replace")


def _is_ours(host: dict[str, Any]) -> bool:
    """Whether the database that this process uses is the server's, which knows the host."""
    try:
        return Host.objects.filter(pk=host["id"], name=host["name"]).exists()
    except DatabaseError:
        return False


def _number(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        found = digits(text, least=least, most=most)
        if found is None:
            raise ArgumentTypeError(f"must be a whole number from {least} to {most}, not {text!r}")
        return found

    return number
