"""Ray Serve's router, which asks our balance.

Ray Serve names it by its path and makes one in the process of the front; it knows which replicas
live, and tells when a request was sent and when it has ended. Source: Ray Serve, RequestRouter
(alpha in Ray 2.60; requests find no replica without it, so a change there is loud).
"""

from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from puna.serve.replicas.balance import Balance, Wanted
from puna.serve.replicas.carried import Asked


class PrefixRouter(RequestRouter):  # type: ignore[misc]  # Ray has no types
    """Sends requests where their text is known."""

    def initialize_state(self, **settings: Any) -> None:
        """Begin to know nothing."""
        self._balance = Balance()

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Choose one replica; Ray Serve asks again where it does not take the request."""
        by_name = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        if pending_request is None:
            return [list(by_name.values())]
        pending_request.routing_context.should_backoff = True  # between one try and the next
        asked = pending_request.args[0] if pending_request.args else None
        self._balance.meet(by_name)
        choice = self._balance.choose(asked.wanted if isinstance(asked, Asked) else Wanted())
        pending_request.kwargs["known"] = choice.known
        return [[by_name[choice.replica]]]

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Learn who lives."""
        super().update_replicas(replicas)
        self._balance.meet([replica.replica_id.unique_id for replica in replicas])

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """Forget who died."""
        super().on_replica_actor_died(replica_id)
        self._balance.lose(replica_id.unique_id)

    def on_send_request(self, replica_id: ReplicaID) -> None:
        """Count what a replica has to do."""
        super().on_send_request(replica_id)
        self._balance.began(replica_id.unique_id)

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Count what it has done."""
        super().on_request_completed(replica_id, internal_request_id)
        self._balance.ended(replica_id.unique_id)
