"""What the store makes of watch events: order, tombstones, another object of the same name."""

from typing import Any

import pytest

from finetune_operator.controller import cache as store_module
from finetune_operator.controller.cache import JobCache, JobEntry, Key
from finetune_operator.plan.types import PodEvent, Ref, Refusal

KEY = Key("ns", "yelp")


def ftj(version: int = 1, uid: str = "job-1", **status: Any) -> dict[str, Any]:
    metadata = {"name": "yelp", "namespace": "ns", "uid": uid, "resourceVersion": str(version), "managedFields": [{}]}
    return {"kind": "FineTuneJob", "metadata": metadata, "spec": {}, "status": status}


def child(
    kind: str, name: str, version: int = 1, attempt: int = 1, uid: str | None = None, **more: Any
) -> dict[str, Any]:
    labels = {"finetune.dev/job": "yelp", "finetune.dev/role": "train", "finetune.dev/attempt": str(attempt)}
    metadata = {
        "name": name,
        "namespace": "ns",
        "uid": uid or f"uid-{name}",
        "resourceVersion": str(version),
        "labels": labels,
        "ownerReferences": [{"kind": "FineTuneJob", "name": "yelp", "uid": "job-1", "controller": True}],
    }
    return {"kind": kind, "metadata": metadata, **more}


def job(attempt: int = 1, version: int = 1) -> dict[str, Any]:
    return child("Job", f"yelp-train-{attempt}", version, attempt)


def pod(name: str, version: int = 1, attempt: int = 1, phase: str = "Running") -> dict[str, Any]:
    made = child("Pod", name, version, attempt, status={"phase": phase})
    owner = {"kind": "Job", "name": f"yelp-train-{attempt}", "uid": f"uid-yelp-train-{attempt}", "controller": True}
    made["metadata"]["ownerReferences"] = [owner]
    return made


def store_with_job() -> JobCache:
    store = JobCache()
    store.observe(ftj(), deleted=False)
    store.observe(job(), deleted=False)
    return store


def state_of(store: JobCache) -> JobEntry:
    state = store.get(KEY)
    assert state is not None
    return state


def test_children_come_to_the_job_of_their_label_in_any_order() -> None:
    store = JobCache()
    assert store.observe(pod("a"), deleted=False) == KEY
    assert store.observe(ftj(), deleted=False) == KEY
    assert list(state_of(store).objects) == ["uid-a"]


def test_an_object_without_the_label_wakes_nobody() -> None:
    store = JobCache()
    stranger = child("Job", "other")
    stranger["metadata"]["labels"] = {}
    assert store.observe(stranger, deleted=False) is None


def test_what_is_known_already_or_older_wakes_nobody() -> None:
    store = JobCache()
    store.observe(ftj(version=10), deleted=False)
    assert store.observe(ftj(version=10), deleted=False) is None
    assert store.observe(ftj(version=9), deleted=False) is None
    assert store.observe(ftj(version=11), deleted=False) == KEY


def test_a_deleted_pod_stays_as_it_was_last_seen() -> None:
    store = store_with_job()
    store.observe(pod("a"), deleted=False)
    assert store.observe(pod("a", version=5, phase="Failed"), deleted=True) == KEY
    state = state_of(store)
    assert state.gone == {"uid-a"}
    assert state.objects["uid-a"]["status"]["phase"] == "Failed"
    assert state.find("Pod", "a") is None
    assert store.observe(pod("a", version=4), deleted=False) is None, "a late event does not bring it back"


def test_pod_deletion_counts_from_the_request() -> None:
    """The kubelet's own request, without a grace period, moves the time that the API server shows."""
    asked = {"deletionTimestamp": "2026-01-01T00:00:40Z", "deletionGracePeriodSeconds": 30}
    moved = {"deletionTimestamp": "2026-01-01T00:00:12Z", "deletionGracePeriodSeconds": 0}
    store = store_with_job()
    for version, times in enumerate((asked, moved), start=1):
        item = pod("a", version)
        item["metadata"] |= times
        store.observe(item, deleted=False)
    last = pod("a", 3, phase="Failed")
    last["metadata"] |= moved
    store.observe(last, deleted=True)

    kept = state_of(store).objects["uid-a"]
    assert {name: kept["metadata"][name] for name in asked} == asked
    assert kept["status"] == {"phase": "Failed"}
    assert state_of(store).gone == {"uid-a"}


def deleting(name: str, version: int) -> dict[str, Any]:
    item = pod(name, version)
    item["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:40Z", "deletionGracePeriodSeconds": 30}
    return item


def test_pods_deleted_in_one_second_keep_their_order() -> None:
    """Pods deleted in one second keep the order in which the watch showed it."""
    store = store_with_job()
    for name in ("a", "b", "c"):
        store.observe(pod(name), deleted=False)
    for version, name in enumerate(("b", "b", "a"), start=2):
        store.observe(deleting(name, version), deleted=False)
    store.observe(deleting("a", 9), deleted=True)
    store.observe(pod("c", 10), deleted=True)
    places = state_of(store).deletions
    assert sorted(places, key=places.__getitem__) == ["uid-b", "uid-a", "uid-c"]


def test_a_list_tells_no_order_of_deletions() -> None:
    store = store_with_job()
    for name in ("a", "b", "c"):
        store.observe(pod(name), deleted=False)
    state = state_of(store)
    state.replace([job(), deleting("a", 5), deleting("b", 6), deleting("never seen well", 7)], frozenset(state.objects))
    assert state.deletions == {"uid-a": 1, "uid-b": 1, "uid-c": 1}
    store.observe(pod("d"), deleted=False)
    store.observe(deleting("d", 8), deleted=False)
    assert state.deletions["uid-d"] == 2


def test_deleted_pods_of_the_newest_two_attempts_are_kept() -> None:
    store = JobCache()
    store.observe(ftj(), deleted=False)
    for attempt in (1, 2, 3):
        store.observe(job(attempt), deleted=False)
        store.observe(pod(f"a{attempt}", attempt=attempt), deleted=False)
        store.observe(pod(f"a{attempt}", version=2, attempt=attempt, phase="Failed"), deleted=True)
    assert state_of(store).gone == {"uid-a2", "uid-a3"}


def test_a_job_of_ours_that_was_deleted_still_tells_whose_its_pods_are() -> None:
    store = store_with_job()
    store.observe(pod("a"), deleted=False)
    store.observe(job(version=2), deleted=True)
    store.observe(pod("a", version=2, phase="Failed"), deleted=True)
    state = state_of(store)
    assert state.gone == {"uid-a", "uid-yelp-train-1"}
    assert state.find("Job", "yelp-train-1") is None
    store.observe(child("Job", "yelp-train-1", uid="another"), deleted=False)
    assert not state.gone, "the pods of another Job of this name are others"


def test_other_deleted_objects_are_forgotten() -> None:
    store = store_with_job()
    service = child("Service", "yelp")
    state_of(store).put(service)
    assert state_of(store).remove(service)
    assert set(state_of(store).objects) == {"uid-yelp-train-1"}


def without_owner(item: dict[str, Any]) -> dict[str, Any]:
    del item["metadata"]["ownerReferences"]
    return item


def owned_by(kind: str, name: str, item: dict[str, Any], **more: Any) -> dict[str, Any]:
    item["metadata"]["ownerReferences"] = [{"kind": kind, "name": name, "uid": "u", "controller": True, **more}]
    return item


@pytest.mark.parametrize(
    "item",
    [
        without_owner(pod("a")),
        owned_by("ReplicaSet", "yelp-train-1", pod("a")),
        owned_by("Job", "yelp-train-1", pod("a"), controller=False),
        without_owner(job()),
        owned_by("CronJob", "yelp", job()),
        owned_by("FineTuneJob", "other", job()),
        child("Job", "yelp-else-1"),
        child("Job", "yelp-train-01"),
    ],
    ids=lambda item: f"{item['kind']} {item['metadata']['name']} {item['metadata'].get('ownerReferences')}",
)
def test_what_can_never_count_is_not_kept_whatever_its_label_says(item: dict[str, Any]) -> None:
    store = JobCache()
    store.observe(ftj(), deleted=False)
    assert store.observe(item, deleted=False) is None
    state_of(store).replace([item], frozenset())
    assert not state_of(store).objects


def test_pods_shown_before_their_job_count_later() -> None:
    """A gang whose pods show before their job counts when the job comes."""
    store = JobCache()
    store.observe(ftj(), deleted=False)
    for node in range(1000):
        store.observe(pod(f"a{node}"), deleted=False)
    store.observe(job(), deleted=False)
    state = state_of(store)
    assert len(state.objects) == 1001
    assert not any(state.waits(item) for item in state.objects.values())


def test_pods_of_no_job_are_few_and_a_job_whose_pods_had_to_go_is_listed() -> None:
    store = store_with_job()
    store.observe(owned_by("Job", "none", pod("a")), deleted=False)
    for number in range(store_module.WAITING_MAX):
        forged = owned_by("Job", "none", pod(f"b{number}"))
        forged["metadata"]["labels"]["finetune.dev/job"] = f"job-{number}"
        store.observe(forged, deleted=False)
    assert set(state_of(store).objects) == {"uid-yelp-train-1"}
    assert state_of(store).incomplete
    assert sum(len(state.objects) for state in store) == 1 + store_module.WAITING_MAX


def test_a_list_replaces_what_the_watch_showed_before_it() -> None:
    store = store_with_job()
    for name in ("stays", "went"):
        store.observe(pod(name), deleted=False)
    state = state_of(store)
    known_before = frozenset(state.objects)
    store.observe(pod("came while the list was on its way"), deleted=False)
    state.replace([job(), pod("stays", version=3), pod("only in the list")], known_before)
    living = {item["metadata"]["name"] for uid, item in state.objects.items() if uid not in state.gone}
    living.remove("yelp-train-1")
    assert living == {"stays", "only in the list", "came while the list was on its way"}
    assert state.gone == {"uid-went"}


def test_a_list_by_label_says_nothing_about_objects_without_it() -> None:
    store = JobCache()
    store.observe(ftj(), deleted=False)
    foreign = child("Service", "yelp")
    foreign["metadata"]["labels"] = {}
    state = state_of(store)
    state.put(foreign)
    state.replace([], frozenset(state.objects))
    assert state.find("Service", "yelp") is not None


def test_another_job_of_the_same_name_begins_without_the_old_ones_memory() -> None:
    store = JobCache()
    store.observe(ftj(), deleted=False)
    store.observe(pod("dead"), deleted=False)
    store.observe(pod("dead", version=2), deleted=True)
    store.observe(pod("alive"), deleted=False)
    assert store.observe(ftj(version=50, uid="job-2"), deleted=False) == KEY
    state = state_of(store)
    assert set(state.objects) == {"uid-alive"}
    assert store.observe(ftj(version=49, uid="job-1"), deleted=True) is None, "the old one's end comes late"
    assert state_of(store).body is not None


def test_a_deleted_job_is_forgotten_with_its_last_child() -> None:
    store = JobCache()
    store.observe(ftj(), deleted=False)
    store.observe(pod("a"), deleted=False)
    state_of(store).put(child("Service", "yelp"))
    stranger = child("Job", "yelp-train-1")
    stranger["metadata"]["labels"] = {}
    state_of(store).put(stranger)
    assert store.observe(ftj(version=2), deleted=True) == KEY
    assert store.get(KEY) is not None
    store.observe(pod("a", version=3), deleted=True)
    assert store.get(KEY) is None


def test_what_no_decision_reads_is_not_kept() -> None:
    store = JobCache()
    store.observe(ftj(), deleted=False)
    container = {
        "name": "trainer",
        "image": "i",
        "resources": {"limits": {"cpu": 1}},
        "env": [{"name": "A", "value": "x" * 999}],
    }
    spec = {
        "nodeName": "n1",
        "terminationGracePeriodSeconds": 30,
        "containers": [container],
        "volumes": [{"name": "v"}],
    }
    store.observe({**pod("a"), "spec": spec}, deleted=False)
    store.observe(child("Job", "yelp-train-1", spec={"suspend": False, "template": {"spec": {}}}), deleted=False)
    state = state_of(store)
    state.put(child("ConfigMap", "c", data={"run.json": "{}"}))
    assert state.objects["uid-a"]["spec"] == {
        "nodeName": "n1",
        "containers": [{key: container[key] for key in ("name", "image", "resources")}],
    }
    assert state.objects["uid-yelp-train-1"]["spec"] == {"suspend": False}
    assert "data" not in state.objects["uid-c"]
    assert state.body is not None
    assert "managedFields" not in state.body["metadata"]


REFUSAL = Refusal(Ref("Job", "yelp-train-1"), 403, "Forbidden", "exceeded quota")


def edited(generation: int) -> dict[str, Any]:
    body = ftj(version=generation * 10)
    body["metadata"]["generation"] = generation
    return body


def refuse(state: JobEntry, generation: int = 1) -> None:
    state.refuse(REFUSAL, generation, lambda times: 1000.0 * times)


def test_what_was_learnt_of_a_generation_ends_with_it() -> None:
    store = JobCache()
    store.observe(edited(1), deleted=False)
    state = state_of(store)
    refuse(state)
    refuse(state)
    state.references[Ref("ConfigMap", "data")] = None
    state.looked_up[Ref("ConfigMap", "data")] = 1.0
    state.events["uid-a"] = (PodEvent("FailedMount", "no Secret"),)
    assert (state.refusals(), state.refused[REFUSAL.ref].times) == ((REFUSAL,), 2)

    store.observe(edited(2), deleted=False)

    assert not any((state.refused, state.references, state.looked_up, state.events, state.results))
    refuse(state, generation=2)
    assert state.refused[REFUSAL.ref].times == 1, "tries are counted anew"


def test_another_status_of_the_same_generation_keeps_what_was_learnt() -> None:
    store = JobCache()
    store.observe(edited(1), deleted=False)
    refuse(state_of(store))
    store.observe({**edited(1), "metadata": {**edited(1)["metadata"], "resourceVersion": "11"}}, deleted=False)
    assert state_of(store).refusals() == (REFUSAL,)


def test_a_refusal_that_comes_after_the_edit_that_mends_is_not_believed() -> None:
    store = JobCache()
    store.observe(edited(1), deleted=False)
    store.observe(edited(2), deleted=False)
    refuse(state_of(store), generation=1)
    assert not state_of(store).refused


def test_what_is_there_was_not_refused() -> None:
    """An answer may be lost on its way, and the object be made all the same."""
    store = JobCache()
    store.observe(edited(1), deleted=False)
    refuse(state_of(store))
    store.observe(child("Job", "yelp-train-1"), deleted=False)
    assert state_of(store).refusals() == ()


def test_running_jobs_are_counted() -> None:
    store = JobCache()
    store.observe(ftj(phase="Running"), deleted=False)
    store.observe(ftj(version=2, phase="Running", attempt=2), deleted=False)
    assert store.running == 1
    store.observe(ftj(version=3, phase="Restarting"), deleted=False)
    assert store.running == 0
    store.observe(ftj(version=4, phase="Running"), deleted=False)
    store.observe(ftj(version=5, phase="Running"), deleted=True)
    assert store.running == 0
