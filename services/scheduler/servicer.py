"""The service Scheduler: each group of methods lives beside the noun it is about."""

from typing import cast

import grpc

from mailer.v1 import scheduler_pb2_grpc
from services.scheduler.campaign_rpcs import CampaignRpcs
from services.scheduler.control_rpcs import ControlRpcs
from services.scheduler.plan import PlanRpc
from services.scheduler.preview import PreviewRpc
from services.scheduler.recipient_rpcs import RecipientRpcs
from services.scheduler.template_rpcs import TemplateRpcs
from services.scheduler.watch import WatchRpc


class SchedulerServicer:
    """Gathers the methods of the contract; a test walks the descriptors, so that none is forgotten."""

    def __init__(
        self,
        *,
        templates: TemplateRpcs,
        campaigns: CampaignRpcs,
        recipients: RecipientRpcs,
        control: ControlRpcs,
        preview: PreviewRpc,
        plan: PlanRpc,
        watch: WatchRpc,
    ) -> None:
        """Take the groups of methods."""
        self.CreateTemplate = templates.CreateTemplate
        self.GetTemplate = templates.GetTemplate
        self.ListTemplates = templates.ListTemplates
        self.UpdateTemplate = templates.UpdateTemplate
        self.DeleteTemplate = templates.DeleteTemplate
        self.CreateCampaign = campaigns.CreateCampaign
        self.GetCampaign = campaigns.GetCampaign
        self.ListCampaigns = campaigns.ListCampaigns
        self.UpdateCampaign = campaigns.UpdateCampaign
        self.DeleteCampaign = campaigns.DeleteCampaign
        self.ListRuns = campaigns.ListRuns
        self.AddRecipients = recipients.AddRecipients
        self.ListRecipients = recipients.ListRecipients
        self.ScheduleCampaign = control.ScheduleCampaign
        self.PauseCampaign = control.PauseCampaign
        self.ResumeCampaign = control.ResumeCampaign
        self.CancelCampaign = control.CancelCampaign
        self.RetryFailed = control.RetryFailed
        self.PreviewMessage = preview.PreviewMessage
        self.PlanCampaign = plan.PlanCampaign
        self.WatchCampaign = watch.WatchCampaign

    def add_to(self, server: grpc.aio.Server) -> None:
        """Offer the service on a server."""
        scheduler_pb2_grpc.add_SchedulerServicer_to_server(cast("scheduler_pb2_grpc.SchedulerServicer", self), server)
