package mainstem.compat;

import static mainstem.compat.Cases.eventually;
import static mainstem.compat.Cases.fresh;
import static mainstem.compat.Cases.same;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Apache Kafka's Java clients against a server: `Clients ADDRESS [CASE...]`. */
public final class Clients {
    private static final long HOUR_MS = 3_600_000L;
    private static String address;
    private static Admin admin;

    public static void main(String[] arguments) {
        address = arguments[0];
        admin = Admin.create(Cases.withLogin(Map.of("bootstrap.servers", address)));
        Cases cases = new Cases();
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            cases.add("produce-" + codec, () -> codec(codec));
        }
        cases.add("headers", Clients::headers);
        cases.add("null-key", Clients::nullKey);
        cases.add("null-value", Clients::nullValue);
        cases.add("empty-value", Clients::emptyValue);
        cases.add("idempotent-producer", Clients::idempotent);
        cases.add("explicit-partition", Clients::explicitPartition);
        cases.add("record-timestamp", Clients::recordTimestamp);
        cases.add("log-append-time", Clients::logAppendTime);
        cases.add("acks-0-and-1", Clients::acks);
        cases.add("large-record", Clients::largeRecord);
        cases.add("too-large-refused", Clients::tooLarge);
        cases.add("auto-create-topic", Clients::autoCreate);
        cases.add("consume-earliest", Clients::earliest);
        cases.add("consume-latest", Clients::latest);
        cases.add("consume-from-offset", Clients::fromOffset);
        cases.add("consume-from-time", Clients::fromTime);
        cases.add("offset-out-of-range-resets", Clients::outOfRange);
        cases.add("many-partitions", Clients::manyPartitions);
        cases.add("group-join-leave", () -> members(Map.of()));
        cases.add("group-cooperative", () -> members(Map.of("partition.assignment.strategy", CooperativeStickyAssignor.class.getName())));
        cases.add("group-static-member", Clients::staticMember);
        cases.add("group-commits-survive", Clients::commits);
        cases.add("admin-create-topic", Clients::createTopic);
        cases.add("admin-describe-topic", Clients::describeTopic);
        cases.add("admin-delete-topic", Clients::deleteTopic);
        cases.add("admin-create-partitions", Clients::createPartitions);
        cases.add("admin-describe-configs", Clients::describeConfigs);
        cases.add("admin-alter-configs", Clients::alterConfigs);
        cases.add("admin-list-groups", Clients::listGroups);
        cases.add("admin-describe-group", Clients::describeGroup);
        cases.add("admin-delete-group", Clients::deleteGroup);
        cases.add("admin-group-offsets", Clients::groupOffsets);
        cases.add("admin-delete-records", Clients::deleteRecords);
        cases.add("admin-offsets-by-time", Clients::offsetsByTime);
        cases.add("admin-describe-cluster", Clients::describeCluster);
        cases.add("admin-describe-producers", Clients::describeProducers);
        cases.add("admin-log-dirs", Clients::logDirs);
        cases.add("admin-config-resources", Clients::configResources);
        cases.run(Arrays.copyOfRange(arguments, 1, arguments.length));
    }

    // What the cases are made of.

    private static byte[] bytes(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
    }

    private static String topic(int partitions, Map<String, String> configs) throws Exception {
        String name = fresh("java");
        admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1).configs(configs))).all().get();
        eventually("topic " + name + " shows in metadata", () -> {
            try {
                return partitionCount(name) == partitions;
            } catch (ExecutionException error) {
                return false;
            }
        });
        return name;
    }

    private static int partitionCount(String name) throws Exception {
        return admin.describeTopics(List.of(name)).allTopicNames().get().get(name).partitions().size();
    }

    private static KafkaProducer<byte[], byte[]> producer(Map<String, Object> more) {
        Map<String, Object> config = Cases.withLogin(Map.of("bootstrap.servers", address, "linger.ms", 5, "max.block.ms", 20_000, "delivery.timeout.ms", 30_000, "request.timeout.ms", 20_000));
        config.putAll(more);
        return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private static KafkaConsumer<byte[], byte[]> consumer(String group, Map<String, Object> more) {
        Map<String, Object> config = Cases.withLogin(Map.of("bootstrap.servers", address, "auto.offset.reset", "earliest", "enable.auto.commit", false));
        if (group != null) {
            config.put("group.id", group);
        }
        config.putAll(more);
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static List<RecordMetadata> send(Map<String, Object> config, List<ProducerRecord<byte[], byte[]>> records) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer(config)) {
            List<Future<RecordMetadata>> futures = new ArrayList<>();
            for (ProducerRecord<byte[], byte[]> record : records) {
                futures.add(producer.send(record));
            }
            List<RecordMetadata> sent = new ArrayList<>();
            for (Future<RecordMetadata> future : futures) {
                sent.add(future.get());
            }
            return sent;
        }
    }

    private static void send(String name, String... values) throws Exception {
        send(Map.of(), Arrays.stream(values).map(v -> new ProducerRecord<>(name, 0, bytes("k"), bytes(v))).toList());
    }

    private static String[] numbers(int count) {
        return IntStream.range(0, count).mapToObj(Integer::toString).toArray(String[]::new);
    }

    private static List<ConsumerRecord<byte[], byte[]>> take(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        long deadline = System.currentTimeMillis() + 20_000;
        while (records.size() < count && System.currentTimeMillis() < deadline) {
            consumer.poll(Duration.ofMillis(200)).forEach(records::add);
        }
        same(records.size() >= count, true, count + " records read, got " + records.size());
        return records.subList(0, count);
    }

    private static List<ConsumerRecord<byte[], byte[]>> read(String name, int count, int partition, long offset) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(null, Map.of())) {
            TopicPartition where = new TopicPartition(name, partition);
            consumer.assign(List.of(where));
            consumer.seek(where, offset);
            return new ArrayList<>(take(consumer, count));
        }
    }

    private static List<String> values(List<ConsumerRecord<byte[], byte[]>> records) {
        return records.stream().map(r -> text(r.value())).collect(Collectors.toList());
    }

    private static void refused(Class<? extends Exception> kind, Future<?> future) throws Exception {
        try {
            future.get();
        } catch (ExecutionException error) {
            same(error.getCause().getClass(), kind, "refused with");
            return;
        }
        throw new AssertionError("not refused with " + kind.getSimpleName());
    }

    private static long offset(String name, OffsetSpec spec) throws Exception {
        TopicPartition where = new TopicPartition(name, 0);
        return admin.listOffsets(Map.of(where, spec)).partitionResult(where).get().offset();
    }

    // Producing.

    private static void codec(String codec) throws Exception {
        String name = topic(1, Map.of());
        List<ProducerRecord<byte[], byte[]>> records = Arrays.stream(numbers(200)).map(i -> new ProducerRecord<byte[], byte[]>(name, bytes(i.repeat(300)))).toList();
        send(Map.of("compression.type", codec, "linger.ms", 50), records);
        same(values(read(name, 200, 0, 0)), Arrays.stream(numbers(200)).map(i -> i.repeat(300)).toList(), "values");
    }

    private static void headers() throws Exception {
        String name = topic(1, Map.of());
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(name, bytes("x"));
        record.headers().add("a", bytes("1")).add("a", bytes("2")).add("empty", bytes("")).add("null", null).add("ünï", bytes("välue"));
        send(Map.of(), List.of(record));
        List<String> got = new ArrayList<>();
        for (Header header : read(name, 1, 0, 0).get(0).headers()) {
            got.add(header.key() + "=" + text(header.value()));
        }
        same(got, List.of("a=1", "a=2", "empty=", "null=null", "ünï=välue"), "headers");
    }

    private static void nullKey() throws Exception {
        String name = topic(1, Map.of());
        send(Map.of(), List.of(new ProducerRecord<>(name, null, bytes("x")), new ProducerRecord<>(name, bytes(""), bytes("y"))));
        same(read(name, 2, 0, 0).stream().map(r -> text(r.key())).collect(Collectors.toList()), Arrays.asList(null, ""), "keys");
    }

    private static void nullValue() throws Exception {
        String name = topic(1, Map.of());
        send(Map.of(), List.of(new ProducerRecord<>(name, bytes("k"), null)));
        ConsumerRecord<byte[], byte[]> record = read(name, 1, 0, 0).get(0);
        same(Arrays.asList(text(record.key()), record.value()), Arrays.asList("k", null), "record");
    }

    private static void emptyValue() throws Exception {
        String name = topic(1, Map.of());
        send(name, "", "");
        same(values(read(name, 2, 0, 0)), List.of("", ""), "values");
    }

    private static void idempotent() throws Exception {
        String name = topic(3, Map.of());
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int i = 0; i < 3000; i++) {
            records.add(new ProducerRecord<>(name, i % 3, null, bytes("" + i)));
        }
        send(Map.of("enable.idempotence", true, "linger.ms", 0, "batch.size", 100), records);
        for (int p = 0; p < 3; p++) {
            int partition = p;
            List<String> expected = IntStream.range(0, 1000).mapToObj(i -> "" + (i * 3 + partition)).toList();
            same(values(read(name, 1000, p, 0)), expected, "partition " + p);
        }
    }

    private static void explicitPartition() throws Exception {
        String name = topic(4, Map.of());
        for (int partition : new int[] {3, 1}) {
            RecordMetadata sent = send(Map.of(), List.of(new ProducerRecord<>(name, partition, null, bytes("p" + partition)))).get(0);
            same(List.of(sent.partition(), sent.offset()), List.of(partition, 0L), "where");
            same(values(read(name, 1, partition, 0)), List.of("p" + partition), "values");
        }
    }

    private static void recordTimestamp() throws Exception {
        String name = topic(1, Map.of());
        long stamp = System.currentTimeMillis() - 5 * HOUR_MS;
        send(Map.of(), List.of(new ProducerRecord<>(name, 0, stamp, null, bytes("x"))));
        ConsumerRecord<byte[], byte[]> record = read(name, 1, 0, 0).get(0);
        same(List.of(record.timestampType(), record.timestamp()), List.of(TimestampType.CREATE_TIME, stamp), "timestamp");
    }

    private static void logAppendTime() throws Exception {
        String name = topic(1, Map.of("message.timestamp.type", "LogAppendTime"));
        long now = System.currentTimeMillis();
        RecordMetadata sent = send(Map.of(), List.of(new ProducerRecord<>(name, 0, now - 5 * HOUR_MS, null, bytes("x")))).get(0);
        ConsumerRecord<byte[], byte[]> record = read(name, 1, 0, 0).get(0);
        same(List.of(record.timestampType(), record.timestamp()), List.of(TimestampType.LOG_APPEND_TIME, sent.timestamp()), "timestamp");
        same(Math.abs(sent.timestamp() - now) < 60_000, true, "the server's time");
    }

    private static void acks() throws Exception {
        String name = topic(1, Map.of());
        send(Map.of("acks", "1"), List.of(new ProducerRecord<>(name, bytes("one"))));
        send(Map.of("acks", "0"), List.of(new ProducerRecord<>(name, bytes("zero"))));
        same(values(read(name, 2, 0, 0)), List.of("one", "zero"), "values");
    }

    private static void largeRecord() throws Exception {
        String name = topic(1, Map.of("max.message.bytes", "12000000"));
        String value = "0123456789".repeat(1_000_000);
        send(Map.of("max.request.size", 12_000_000, "buffer.memory", 64_000_000), List.of(new ProducerRecord<>(name, bytes(value))));
        same(values(read(name, 1, 0, 0)).get(0).equals(value), true, "10 MB value is equal");
    }

    private static void tooLarge() throws Exception {
        String name = topic(1, Map.of("max.message.bytes", "1000"));
        try (KafkaProducer<byte[], byte[]> producer = producer(Map.of())) {
            refused(RecordTooLargeException.class, producer.send(new ProducerRecord<>(name, new byte[5000])));
        }
    }

    private static void autoCreate() throws Exception {
        String name = fresh("auto");
        send(name, "x");
        same(values(read(name, 1, 0, 0)), List.of("x"), "values");
    }

    // Consuming.

    private static void earliest() throws Exception {
        String name = topic(1, Map.of());
        send(name, "a", "b");
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(fresh("g"), Map.of())) {
            consumer.subscribe(List.of(name));
            same(values(take(consumer, 2)), List.of("a", "b"), "values");
        }
    }

    private static void latest() throws Exception {
        String name = topic(1, Map.of());
        send(name, "old");
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(null, Map.of("auto.offset.reset", "latest"))) {
            consumer.assign(List.of(new TopicPartition(name, 0)));
            same(consumer.poll(Duration.ofSeconds(1)).count(), 0, "records before the new one");
            send(name, "new");
            same(values(take(consumer, 1)), List.of("new"), "values");
        }
    }

    private static void fromOffset() throws Exception {
        String name = topic(1, Map.of());
        send(name, numbers(100));
        same(values(read(name, 3, 0, 57)), List.of("57", "58", "59"), "values");
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(null, Map.of("max.poll.records", 1))) {
            TopicPartition where = new TopicPartition(name, 0);
            consumer.assign(List.of(where));
            consumer.seekToEnd(List.of(where));
            same(consumer.position(where), 100L, "end");
            consumer.seekToBeginning(List.of(where));
            same(values(take(consumer, 1)), List.of("0"), "first");
            consumer.seek(where, 42);
            same(values(take(consumer, 1)), List.of("42"), "after seek");
        }
    }

    private static void fromTime() throws Exception {
        String name = topic(1, Map.of());
        long base = System.currentTimeMillis() - HOUR_MS;
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int i = 0; i < 6; i++) {
            records.add(new ProducerRecord<>(name, 0, base + i * 1000L, null, bytes("" + i)));
        }
        send(Map.of(), records);
        TopicPartition where = new TopicPartition(name, 0);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(null, Map.of())) {
            OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(where, base + 3500)).get(where);
            same(List.of(found.offset(), found.timestamp()), List.of(4L, base + 4000), "first record at or after");
            same(consumer.offsetsForTimes(Map.of(where, base + HOUR_MS)).get(where), null, "after all");
            same(consumer.beginningOffsets(List.of(where)).get(where), 0L, "beginning");
            same(consumer.endOffsets(List.of(where)).get(where), 6L, "end");
        }
    }

    private static void outOfRange() throws Exception {
        String name = topic(1, Map.of());
        send(name, "a", "b");
        same(values(read(name, 2, 0, 500)), List.of("a", "b"), "values");
    }

    private static void manyPartitions() throws Exception {
        String name = topic(60, Map.of());
        // Apache Kafka answers NOT_LEADER_OR_FOLLOWER right after the creation, and the producer gets stuck on that.
        admin.listOffsets(IntStream.range(0, 60).boxed().collect(Collectors.toMap(p -> new TopicPartition(name, p), p -> OffsetSpec.latest()))).all().get();
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int i = 0; i < 6000; i++) {
            records.add(new ProducerRecord<>(name, i % 60, null, bytes(("" + i).repeat(100))));
        }
        send(Map.of(), records);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(null, Map.of("max.partition.fetch.bytes", 4096, "fetch.max.bytes", 50_000))) {
            consumer.assign(IntStream.range(0, 60).mapToObj(p -> new TopicPartition(name, p)).toList());
            Map<Integer, Long> next = new HashMap<>();
            for (ConsumerRecord<byte[], byte[]> record : take(consumer, 6000)) {
                same(record.offset(), next.getOrDefault(record.partition(), 0L), "offset in partition " + record.partition());
                next.put(record.partition(), record.offset() + 1);
            }
            same(new HashSet<>(next.values()), Set.of(100L), "records of each partition");
        }
    }

    // Groups.

    private static void members(Map<String, Object> config) throws Exception {
        String name = topic(4, Map.of());
        String group = fresh("g");
        Map<String, Object> more = new HashMap<>(config);
        more.put("heartbeat.interval.ms", 300);
        Map<Integer, Set<String>> seen = new HashMap<>();
        IntStream.range(0, 4).forEach(p -> seen.put(p, new HashSet<>()));
        KafkaConsumer<byte[], byte[]> first = consumer(group, more);
        try (first; KafkaConsumer<byte[], byte[]> second = consumer(group, more)) {
            first.subscribe(List.of(name));
            eventually("first member has all", () -> turn(seen, first) && first.assignment().size() == 4);
            second.subscribe(List.of(name));
            eventually("2 partitions each", () -> turn(seen, first, second) && first.assignment().size() == 2 && second.assignment().size() == 2);
            fill(name, "shared");
            eventually("every record read", () -> turn(seen, first, second) && seen.values().stream().allMatch(s -> s.contains("shared")));
            first.close();
            eventually("second member has all", () -> turn(seen, second) && second.assignment().size() == 4);
            fill(name, "last");
            eventually("records after the leave", () -> turn(seen, second) && seen.values().stream().allMatch(s -> s.contains("last")));
        }
    }

    private static void fill(String name, String value) throws Exception {
        send(Map.of(), IntStream.range(0, 4).mapToObj(p -> new ProducerRecord<byte[], byte[]>(name, p, null, bytes(value))).toList());
    }

    @SafeVarargs
    private static boolean turn(Map<Integer, Set<String>> seen, KafkaConsumer<byte[], byte[]>... consumers) {
        for (KafkaConsumer<byte[], byte[]> consumer : consumers) {
            consumer.poll(Duration.ofMillis(100)).forEach(r -> seen.get(r.partition()).add(text(r.value())));
        }
        return true;
    }

    private static void staticMember() throws Exception {
        String name = topic(2, Map.of());
        String group = fresh("g");
        for (int i = 0; i < 2; i++) {
            try (KafkaConsumer<byte[], byte[]> consumer = consumer(group, Map.of("group.instance.id", "one", "session.timeout.ms", 10_000))) {
                consumer.subscribe(List.of(name));
                eventually("both partitions", () -> turn(Map.of(), consumer) && consumer.assignment().size() == 2);
            }
        }
        ConsumerGroupDescription found = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
        same(found.members().stream().map(m -> m.groupInstanceId()).toList(), List.of(Optional.of("one")), "members after close");
    }

    private static void commits() throws Exception {
        String name = topic(1, Map.of());
        String group = fresh("g");
        TopicPartition where = new TopicPartition(name, 0);
        send(name, numbers(10));
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(group, Map.of())) {
            consumer.subscribe(List.of(name));
            take(consumer, 10);
            consumer.commitSync(Map.of(where, new OffsetAndMetadata(4, Optional.of(0), "wörk")));
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(group, Map.of())) {
            consumer.subscribe(List.of(name));
            same(values(take(consumer, 1)), List.of("4"), "next");
            OffsetAndMetadata kept = consumer.committed(Set.of(where)).get(where);
            same(List.of(kept.offset(), kept.metadata(), kept.leaderEpoch()), List.of(4L, "wörk", Optional.of(0)), "committed");
        }
    }

    // Administration.

    private static void createTopic() throws Exception {
        String name = topic(5, Map.of("retention.ms", "60000"));
        same(partitionCount(name), 5, "partitions");
        refused(TopicExistsException.class, admin.createTopics(List.of(new NewTopic(name, 1, (short) 1))).all());
        refused(InvalidTopicException.class, admin.createTopics(List.of(new NewTopic("no/such", 1, (short) 1))).all());
        refused(InvalidPartitionsException.class, admin.createTopics(List.of(new NewTopic(fresh("x"), 0, (short) 1))).all());
        refused(InvalidReplicationFactorException.class, admin.createTopics(List.of(new NewTopic(fresh("x"), 1, (short) 3))).all());
        refused(InvalidConfigurationException.class, admin.createTopics(List.of(new NewTopic(fresh("x"), 1, (short) 1).configs(Map.of("no.such", "1")))).all());
        String checked = fresh("checked");
        admin.createTopics(List.of(new NewTopic(checked, 1, (short) 1)), new CreateTopicsOptions().validateOnly(true)).all().get();
        same(admin.listTopics().names().get().contains(checked), false, "made by validate only");
        String defaults = fresh("defaults");
        var made = admin.createTopics(List.of(new NewTopic(defaults, Optional.empty(), Optional.empty())));
        same(List.of(made.numPartitions(defaults).get(), made.replicationFactor(defaults).get()), List.of(1, 1), "defaults");
        same(made.config(defaults).get().get("cleanup.policy").value(), "delete", "configs in the answer");
    }

    private static void describeTopic() throws Exception {
        String name = topic(3, Map.of());
        TopicDescription found = admin.describeTopics(List.of(name)).allTopicNames().get().get(name);
        same(List.of(found.name(), found.isInternal(), found.partitions().size()), List.of(name, false, 3), "topic");
        same(found.partitions().stream().map(p -> p.leader().id() + ":" + p.isr().size()).distinct().toList(), List.of("1:1"), "leaders");
        Uuid id = found.topicId();
        same(admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get().get(id).name(), name, "by id");
        refused(UnknownTopicOrPartitionException.class, admin.describeTopics(List.of(fresh("nothere"))).allTopicNames());
        same(admin.listTopics().names().get().contains(name), true, "listed");
    }

    private static void deleteTopic() throws Exception {
        String name = topic(1, Map.of());
        send(name, "before");
        admin.deleteTopics(List.of(name)).all().get();
        eventually("the topic is gone", () -> !admin.listTopics().names().get().contains(name));
        refused(UnknownTopicOrPartitionException.class, admin.deleteTopics(List.of(name)).all());
        String byId = topic(1, Map.of());
        Uuid id = admin.describeTopics(List.of(byId)).allTopicNames().get().get(byId).topicId();
        admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get();
        eventually("the topic is gone, by id", () -> !admin.listTopics().names().get().contains(byId));
    }

    private static void createPartitions() throws Exception {
        String name = topic(2, Map.of());
        admin.createPartitions(Map.of(name, NewPartitions.increaseTo(6))).all().get();
        eventually("6 partitions", () -> partitionCount(name) == 6);
        send(Map.of(), List.of(new ProducerRecord<>(name, 5, null, bytes("x"))));
        same(values(read(name, 1, 5, 0)), List.of("x"), "values");
        refused(InvalidPartitionsException.class, admin.createPartitions(Map.of(name, NewPartitions.increaseTo(3))).all());
    }

    private static Config config(ConfigResource.Type type, String name) throws Exception {
        ConfigResource resource = new ConfigResource(type, name);
        return admin.describeConfigs(List.of(resource)).all().get().get(resource);
    }

    private static void describeConfigs() throws Exception {
        Config found = config(ConfigResource.Type.TOPIC, topic(1, Map.of("retention.ms", "123456")));
        ConfigEntry set = found.get("retention.ms");
        same(List.of(set.value(), set.source(), set.type()), List.of("123456", ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, ConfigEntry.ConfigType.LONG), "retention.ms");
        same(found.get("cleanup.policy").isDefault(), true, "cleanup.policy is default");
        same(config(ConfigResource.Type.BROKER, "1").get("log.retention.ms") != null, true, "broker config");
    }

    private static void alter(String name, String key, String value, AlterConfigOp.OpType operation) throws Exception {
        AlterConfigOp change = new AlterConfigOp(new ConfigEntry(key, value), operation);
        admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.TOPIC, name), List.of(change))).all().get();
    }

    private static void alterConfigs() throws Exception {
        String name = topic(1, Map.of());
        alter(name, "retention.ms", "777000", AlterConfigOp.OpType.SET);
        eventually("set", () -> config(ConfigResource.Type.TOPIC, name).get("retention.ms").value().equals("777000"));
        alter(name, "retention.ms", null, AlterConfigOp.OpType.DELETE);
        eventually("default", () -> config(ConfigResource.Type.TOPIC, name).get("retention.ms").isDefault());
        alter(name, "cleanup.policy", "delete", AlterConfigOp.OpType.APPEND);
        for (String[] bad : new String[][] {{"no.such.key", "1"}, {"retention.ms", "soon"}}) {
            try {
                alter(name, bad[0], bad[1], AlterConfigOp.OpType.SET);
                throw new AssertionError(bad[0] + " was taken");
            } catch (ExecutionException error) {
                same(error.getCause().getClass(), InvalidConfigurationException.class, "refused with");
            }
        }
    }

    private static String[] groupWithCommit() throws Exception {
        String name = topic(1, Map.of());
        String group = fresh("g");
        send(name, "a", "b", "c");
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(group, Map.of())) {
            consumer.subscribe(List.of(name));
            take(consumer, 3);
            consumer.commitSync(Map.of(new TopicPartition(name, 0), new OffsetAndMetadata(2)));
        }
        return new String[] {name, group};
    }

    private static void listGroups() throws Exception {
        String group = groupWithCommit()[1];
        Collection<GroupListing> all = admin.listGroups().all().get();
        List<GroupListing> mine = all.stream().filter(g -> g.groupId().equals(group)).toList();
        same(mine.stream().map(g -> g.groupState().get() + " " + g.protocol()).toList(), List.of(GroupState.EMPTY + " consumer"), "listed");
    }

    private static void describeGroup() throws Exception {
        String name = topic(2, Map.of());
        String group = fresh("g");
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(group, Map.of("client.id", "who"))) {
            consumer.subscribe(List.of(name));
            eventually("assigned", () -> turn(Map.of(), consumer) && consumer.assignment().size() == 2);
            ConsumerGroupDescription found = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            same(List.of(found.groupState(), found.partitionAssignor(), found.coordinator().id()), List.of(GroupState.STABLE, "range", 1), "group");
            var member = found.members().iterator().next();
            same(List.of(member.clientId(), member.assignment().topicPartitions().size()), List.of("who", 2), "member");
        }
    }

    private static void deleteGroup() throws Exception {
        String group = groupWithCommit()[1];
        admin.deleteConsumerGroups(List.of(group)).all().get();
        same(admin.listGroups().all().get().stream().anyMatch(g -> g.groupId().equals(group)), false, "still listed");
        refused(GroupIdNotFoundException.class, admin.deleteConsumerGroups(List.of(group)).all());
        refused(GroupIdNotFoundException.class, admin.describeConsumerGroups(List.of(group)).all());
    }

    private static void groupOffsets() throws Exception {
        String[] made = groupWithCommit();
        TopicPartition where = new TopicPartition(made[0], 0);
        same(admin.listConsumerGroupOffsets(made[1]).partitionsToOffsetAndMetadata().get().get(where).offset(), 2L, "listed");
        admin.alterConsumerGroupOffsets(made[1], Map.of(where, new OffsetAndMetadata(1))).all().get();
        same(admin.listConsumerGroupOffsets(made[1]).partitionsToOffsetAndMetadata().get().get(where).offset(), 1L, "altered");
        admin.deleteConsumerGroupOffsets(made[1], Set.of(where)).all().get();
        same(admin.listConsumerGroupOffsets(made[1]).partitionsToOffsetAndMetadata().get().get(where), null, "deleted");
    }

    private static void deleteRecords() throws Exception {
        String name = topic(1, Map.of());
        TopicPartition where = new TopicPartition(name, 0);
        send(name, numbers(10));
        same(admin.deleteRecords(Map.of(where, RecordsToDelete.beforeOffset(4))).lowWatermarks().get(where).get().lowWatermark(), 4L, "low watermark");
        same(offset(name, OffsetSpec.earliest()), 4L, "earliest");
        same(values(read(name, 1, 0, 4)), List.of("4"), "first left");
    }

    private static void offsetsByTime() throws Exception {
        String name = topic(1, Map.of());
        long base = System.currentTimeMillis() - HOUR_MS;
        for (long i : new long[] {0, 5, 3}) {
            send(Map.of(), List.of(new ProducerRecord<>(name, 0, base + i * 1000, null, bytes("x"))));
        }
        same(offset(name, OffsetSpec.earliest()), 0L, "earliest");
        same(offset(name, OffsetSpec.latest()), 3L, "latest");
        same(offset(name, OffsetSpec.forTimestamp(base + 1)), 1L, "by time");
        same(offset(name, OffsetSpec.maxTimestamp()), 1L, "max timestamp");
        same(offset(name, OffsetSpec.forTimestamp(base + HOUR_MS)), -1L, "after all");
    }

    private static void describeCluster() throws Exception {
        Node node = admin.describeCluster().nodes().get().iterator().next();
        same(node.host() + ":" + node.port(), address, "address");
        same(List.of(node.id(), admin.describeCluster().controller().get().id()), List.of(1, 1), "ids");
        same(admin.describeCluster().clusterId().get().length(), 22, "length of the cluster id");
    }

    private static void describeProducers() throws Exception {
        String name = topic(1, Map.of());
        TopicPartition where = new TopicPartition(name, 0);
        send(name, numbers(7));
        List<ProducerState> found = admin.describeProducers(List.of(where)).partitionResult(where).get().activeProducers();
        same(found.stream().map(p -> p.producerEpoch() + ":" + p.lastSequence()).toList(), List.of("0:6"), "producers");
    }

    private static void logDirs() throws Exception {
        String name = topic(1, Map.of());
        send(name, "x".repeat(1000));
        var dirs = admin.describeLogDirs(List.of(1)).allDescriptions().get().get(1);
        var replica = dirs.values().iterator().next().replicaInfos().get(new TopicPartition(name, 0));
        same(List.of(dirs.size(), replica.size() > 1000, replica.offsetLag()), List.of(1, true, 0L), "log dir");
    }

    private static void configResources() throws Exception {
        String name = topic(1, Map.of());
        var found = admin.listConfigResources(Set.of(ConfigResource.Type.TOPIC), new org.apache.kafka.clients.admin.ListConfigResourcesOptions()).all().get();
        same(found.stream().anyMatch(r -> r.name().equals(name)), true, "listed");
    }
}
