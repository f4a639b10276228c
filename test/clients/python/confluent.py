"""confluent-kafka (Debian's python3-confluent-kafka and librdkafka) as an agent."""

import agent
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic


def config(job, **more):
    return {"bootstrap.servers": ",".join(job["brokers"]), **{k.replace("_", "."): v for k, v in more.items()}}


def producer(job):
    c = config(job, linger_ms=5, enable_idempotence=job["idempotent"], acks="all")
    if job["codec"]:
        c["compression.type"] = job["codec"]
    if job["max_bytes"]:
        c["message.max.bytes"] = job["max_bytes"]
    return Producer(c)


def produce(job):
    p, errors = producer(job), []
    for key, value, headers, when in agent.records(job):
        more = {"timestamp": when} if when else {}
        p.produce(job["topic"], value, key, job["partition"], headers=headers or None,
                  on_delivery=lambda e, _: e and errors.append(e), **more)
    if p.flush(60) or errors:
        raise RuntimeError("not delivered: %s" % errors)


def record(m):
    return agent.record(m.partition(), m.offset(), m.key(), m.value(), m.headers(), m.timestamp()[1])


def consume(job):
    c = Consumer(config(job, group_id="unused", enable_auto_commit=False))
    c.assign([TopicPartition(job["topic"], job["partition"], job["offset"])])
    out = []
    while len(out) < job["count"]:
        m = c.poll(0.2)
        if m is not None:
            if m.error():
                raise KafkaException(m.error())
            out.append(record(m))
    c.close()
    return {"records": out}


def offset_at(job):
    c = Consumer(config(job, group_id="unused"))
    if job["time"] < 0:
        low, high = c.get_watermark_offsets(TopicPartition(job["topic"], job["partition"]), timeout=10)
        return {"count": high if job["time"] == -1 else low}
    [found] = c.offsets_for_times([TopicPartition(job["topic"], job["partition"], job["time"])], timeout=10)
    return {"count": found.offset}


def load(job):
    p, errors = producer(dict(job, idempotent=True)), []

    def delivered(n):
        def report(error, _):
            if error:
                errors.append(error)
            else:
                agent.emit("acked", numbers=[n])
        return report

    for n, partition, value in agent.paced(job):
        p.produce(job["topic"], value, partition=partition, on_delivery=delivered(n))
        p.poll(0)
        if errors:
            break
    if p.flush(60) or errors:
        raise RuntimeError("not delivered: %s" % errors)


def member(job):
    strategy = "cooperative-sticky" if job["assignor"] == "cooperative" else "range"
    c = config(job, group_id=job["group"], enable_auto_commit=False, auto_offset_reset="earliest",
               session_timeout_ms=job["session"], heartbeat_interval_ms=job["session"] // 6,
               partition_assignment_strategy=strategy)
    if job["instance"]:
        c["group.instance.id"] = job["instance"]
    c = Consumer(c)
    c.subscribe([job["topic"]], on_assign=lambda _, parts: agent.emit("assigned", count=len(parts)))
    while not agent.left.is_set():
        m = c.poll(0.1)
        if m is None:
            continue
        if m.error():
            agent.emit("trouble", error=str(m.error()))
            continue
        agent.emit("records", records=[record(m)])
        try:
            c.commit(m, asynchronous=False)
            agent.emit("committed", offsets={str(m.partition()): m.offset() + 1})
        except KafkaException as e:  # a rebalance refuses the commit; the records come again
            agent.emit("trouble", error=str(e))
    c.close()


def admin(do):
    return lambda job: do(AdminClient(config(job)), job)


def wait(futures):
    return [f.result(30) for f in futures.values()]


def resource(job, more=None):
    return ConfigResource(ConfigResource.Type.TOPIC, job["topic"], set_config=more)


def describe_config(a, job):
    [entries] = wait(a.describe_configs([resource(job)]))
    return {"config": {k: e.value for k, e in entries.items()}}


def describe_group(a, job):
    [g] = a.list_groups(job["group"], timeout=10)
    if g.error:
        raise KafkaException(g.error)
    return {"names": [g.state], "count": len(g.members)}


def describe_topic(a, job):
    t = a.list_topics(job["topic"], timeout=10).topics[job["topic"]]
    if t.error:
        raise KafkaException(t.error)
    return {"count": len(t.partitions)}


agent.serve({
    "produce": produce, "consume": consume, "offset_at": offset_at, "load": load, "member": member,
    "create_topic": admin(lambda a, j: wait(a.create_topics(
        [NewTopic(j["topic"], j["count"], 3, config=j["config"] or {})])) and None),
    "describe_topic": admin(describe_topic),
    "create_partitions": admin(lambda a, j: wait(a.create_partitions([NewPartitions(j["topic"], j["count"])])) and None),
    "delete_topic": admin(lambda a, j: wait(a.delete_topics([j["topic"]])) and None),
    "describe_config": admin(describe_config),
    "alter_config": admin(lambda a, j: wait(a.alter_configs([resource(j, j["config"])])) and None),
    "list_groups": admin(lambda a, j: {"names": [g.id for g in a.list_groups(timeout=10)]}),
    "describe_group": admin(describe_group),
})
