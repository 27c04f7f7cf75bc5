"""The deploys room."""

from django.apps import AppConfig


class DeploysConfig(AppConfig):
    """Deploys of stacks."""

    name = "dockmesh.deploys"
    label = "deploys"

    def ready(self) -> None:
        """Take the agents' reports, and look after what nobody will report."""
        from dockmesh.core import encrypted, schedule
        from dockmesh.deploys import envfiles, reports, surveys
        from dockmesh.fleet import commands

        encrypted.register("deploys.StackFiles", "encrypted_env_file", purpose=envfiles.PURPOSE)
        encrypted.register("deploys.Deploy", "encrypted_env_file", purpose=envfiles.PURPOSE)
        encrypted.register("deploys.Survey", "encrypted_answer", purpose=surveys.PURPOSE)
        commands.register_result_handler(
            "deploy",
            on_result=reports.take_result,
            on_timeout=reports.take_timeout,
            on_progress=reports.take_progress,
            prepare=reports.prepare,
        )
        commands.register_result_handler(
            surveys.CAPABILITY, on_result=surveys.take_result, on_timeout=surveys.take_timeout
        )
        schedule.register(name="deploys.close_lost", every_seconds=15, run=reports.close_lost)
