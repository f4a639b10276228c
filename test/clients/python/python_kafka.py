"""python-kafka (Debian's python3-kafka) as an agent."""

import agent
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import OffsetAndMetadata


def producer(job):
    if job["idempotent"]:
        raise agent.NoFeature("python-kafka has no idempotent producer")
    codec = job["codec"] if job["codec"] not in ("", "none") else None
    more = {"max_request_size": job["max_bytes"]} if job["max_bytes"] else {}
    return KafkaProducer(bootstrap_servers=job["brokers"], acks="all", compression_type=codec, retries=1000,
                         max_in_flight_requests_per_connection=1, retry_backoff_ms=100, **more)


def produce(job):
    p = producer(job)
    sent = [p.send(job["topic"], value, key, headers, job["partition"], when)
            for key, value, headers, when in agent.records(job)]
    for s in sent:
        s.get(60)
    p.close()


def record(m):
    return agent.record(m.partition, m.offset, m.key, m.value, m.headers, m.timestamp)


def assigned_consumer(job):
    c = KafkaConsumer(bootstrap_servers=job["brokers"], enable_auto_commit=False)
    tp = TopicPartition(job["topic"], job["partition"])
    c.assign([tp])
    return c, tp


def consume(job):
    c, tp = assigned_consumer(job)
    c.seek(tp, job["offset"])
    out = []
    while len(out) < job["count"]:
        for batch in c.poll(500).values():
            out += [record(m) for m in batch]
    c.close()
    return {"records": out}


def offset_at(job):
    c, tp = assigned_consumer(job)
    if job["time"] == -1:
        return {"count": c.end_offsets([tp])[tp]}
    if job["time"] == -2:
        return {"count": c.beginning_offsets([tp])[tp]}
    found = c.offsets_for_times({tp: job["time"]})[tp]
    return {"count": found.offset if found else -1}


def load(job):
    """Not idempotent: one request under way keeps what is repeated in order."""
    p = producer(dict(job, idempotent=False))
    for n, partition, value in agent.paced(job):
        p.send(job["topic"], value, partition=partition).get(60)
        agent.emit("acked", numbers=[n])
    p.close()


class Listener(ConsumerRebalanceListener):
    def on_partitions_revoked(self, revoked):
        pass

    def on_partitions_assigned(self, assigned):
        agent.emit("assigned", count=len(assigned))


def member(job):
    if job["instance"] or job["assignor"] == "cooperative":
        raise agent.NoFeature("python-kafka has neither static members nor cooperative rebalancing")
    c = KafkaConsumer(bootstrap_servers=job["brokers"], group_id=job["group"], enable_auto_commit=False,
                      auto_offset_reset="earliest", session_timeout_ms=job["session"],
                      heartbeat_interval_ms=job["session"] // 6, partition_assignment_strategy=[RangePartitionAssignor])
    c.subscribe([job["topic"]], listener=Listener())
    while not agent.left.is_set():
        batches = c.poll(200, max_records=200)
        if not batches:
            continue
        agent.emit("records", records=[record(m) for b in batches.values() for m in b])
        offsets = {tp: OffsetAndMetadata(b[-1].offset + 1, "") for tp, b in batches.items()}
        try:
            c.commit(offsets)
            agent.emit("committed", offsets={str(tp.partition): o.offset for tp, o in offsets.items()})
        except Exception as e:  # a rebalance refuses the commit; the records come again
            agent.emit("trouble", error=str(e))
    c.close()


def admin(do):
    def run(job):
        a = KafkaAdminClient(bootstrap_servers=job["brokers"])
        try:
            return do(a, job)
        finally:
            a.close()
    return run


def topic_resource(job, configs=None):
    return ConfigResource(ConfigResourceType.TOPIC, job["topic"], configs=configs)


def check(responses):
    for r in responses:
        for res in r.resources:
            if res[0] != 0:
                raise RuntimeError("error %s: %s" % (res[0], res[1]))
    return responses


def describe_config(a, job):
    [r] = check(a.describe_configs([topic_resource(job)]))
    return {"config": {e[0]: e[1] for e in r.resources[0][4]}}


def describe_group(a, job):
    [g] = a.describe_consumer_groups([job["group"]])
    return {"names": [g.state], "count": len(g.members)}


def delete_group(a, job):
    [(_, error)] = a.delete_consumer_groups([job["group"]])
    if error.errno != 0:
        raise error


agent.serve({
    "produce": produce, "consume": consume, "offset_at": offset_at, "load": load, "member": member,
    "create_topic": admin(lambda a, j: a.create_topics(
        [NewTopic(j["topic"], j["count"], 3, topic_configs=j["config"])]) and None),
    "describe_topic": admin(lambda a, j: {"count": len(a.describe_topics([j["topic"]])[0]["partitions"])}),
    "create_partitions": admin(lambda a, j: a.create_partitions({j["topic"]: NewPartitions(j["count"])}) and None),
    "delete_topic": admin(lambda a, j: a.delete_topics([j["topic"]]) and None),
    "describe_config": admin(describe_config),
    "alter_config": admin(lambda a, j: check([a.alter_configs([topic_resource(j, j["config"])])]) and None),
    "list_groups": admin(lambda a, j: {"names": [g[0] for g in a.list_consumer_groups()]}),
    "describe_group": admin(describe_group), "delete_group": admin(delete_group),
})
