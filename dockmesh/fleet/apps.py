"""The fleet room."""

from django.apps import AppConfig

from dockmesh.core import encrypted, lifecycle, schedule

# A command's end by timeout need not be known to the second.
EXPIRE_EVERY_SECONDS = 10.0
FORGET_LOGS_EVERY_SECONDS = 15.0
TIDY_EVERY_SECONDS = 3600.0
NOTE_HOURS_EVERY_SECONDS = 60
ADVANCE_EVERY_SECONDS = 2.0


class FleetConfig(AppConfig):
    """Hosts, stacks and containers, and the agents' protocol."""

    name = "dockmesh.fleet"
    label = "fleet"

    def ready(self) -> None:
        """Register the scheduler's jobs, and the note of every web process that it listens."""
        from dockmesh.fleet import commands, hours, listening, services
        from dockmesh.fleet.ingest import counts
        from dockmesh.fleet.services import agent_updates, containers, details, logs

        schedule.register(
            name="fleet.expire_commands", every_seconds=EXPIRE_EVERY_SECONDS, run=commands.expire_overdue
        )
        commands.register_result_handler(
            containers.KIND,
            on_result=containers.take_result,
            on_timeout=containers.take_timeout,
            is_beside=True,
        )
        commands.register_result_handler(
            logs.KIND, on_result=logs.take_result, on_timeout=logs.take_timeout, is_beside=True
        )
        commands.register_result_handler(
            details.KIND, on_result=details.take_result, on_timeout=details.take_timeout, is_beside=True
        )
        encrypted.register("fleet.LogPiece", "encrypted_text", purpose=logs.PURPOSE)
        schedule.register(
            name="fleet.forget_logs", every_seconds=FORGET_LOGS_EVERY_SECONDS, run=logs.forget_logs
        )
        commands.register_result_handler(
            agent_updates.KIND,
            on_result=agent_updates.take_result,
            on_timeout=agent_updates.take_timeout,
            prepare=agent_updates.prepare,
        )
        schedule.register(
            name="fleet.agent_updates", every_seconds=ADVANCE_EVERY_SECONDS, run=agent_updates.advance
        )
        schedule.register(name="fleet.hours", every_seconds=NOTE_HOURS_EVERY_SECONDS, run=hours.note)
        lifecycle.register_start(listening.start)
        lifecycle.register_stop(listening.stop)
        for name, run in (
            ("fleet.forget_agent_updates", agent_updates.forget_updates),
            ("fleet.forget_commands", commands.forget_finished),
            ("fleet.forget_counts", counts.forget_counts),
            ("fleet.forget_details", details.forget_details),
            ("fleet.forget_enrollment_tokens", services.forget_expired_enrollment_tokens),
            ("fleet.forget_listening", listening.forget_old_spans),
        ):
            schedule.register(name=name, every_seconds=TIDY_EVERY_SECONDS, run=run)
