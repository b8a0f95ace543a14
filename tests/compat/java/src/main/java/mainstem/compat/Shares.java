package mainstem.compat;

import static mainstem.compat.Cases.eventually;
import static mainstem.compat.Cases.fresh;
import static mainstem.compat.Cases.same;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListShareGroupOffsetsSpec;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Apache Kafka's Java share consumer against a server: `Shares ADDRESS [CASE...]`. */
public final class Shares {
    private static String address;
    private static Admin admin;

    public static void main(String[] arguments) {
        address = arguments[0];
        admin = Admin.create(Map.of("bootstrap.servers", address));
        Cases cases = new Cases();
        cases.add("implicit", Shares::implicit);
        cases.add("explicit", Shares::explicit);
        cases.add("redelivered-to-the-limit", Shares::limit);
        cases.add("two-consumers-share", Shares::shared);
        cases.add("closed-consumer-releases", Shares::closed);
        cases.add("lock-expires", Shares::expires);
        cases.add("renewed", Shares::renewed);
        cases.add("record-limit", Shares::recordLimit);
        cases.add("commit-sync", Shares::commitSync);
        cases.add("compressed", Shares::compressed);
        cases.add("ten-thousand", Shares::many);
        cases.add("admin-describe", Shares::describe);
        cases.add("admin-offsets", Shares::offsets);
        cases.run(java.util.Arrays.copyOfRange(arguments, 1, arguments.length));
    }

    private static String topic(int partitions) throws Exception {
        String name = fresh("shares");
        admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1))).all().get();
        return name;
    }

    private static String group(String... configs) throws Exception {
        String name = fresh("group");
        Map<String, String> chosen = new HashMap<>(Map.of("share.auto.offset.reset", "earliest"));
        for (int i = 0; i < configs.length; i += 2) {
            chosen.put(configs[i], configs[i + 1]);
        }
        List<AlterConfigOp> operations = new ArrayList<>();
        chosen.forEach((key, value) -> operations.add(new AlterConfigOp(new ConfigEntry(key, value), AlterConfigOp.OpType.SET)));
        admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.GROUP, name), operations)).all().get();
        return name;
    }

    private static void send(String topic, int count, String compression) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", address, "compression.type", compression, "linger.ms", 20);
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int i = 0; i < count; i++) {
                producer.send(new ProducerRecord<>(topic, "key" + i, "value" + i));
            }
        }
    }

    private static KafkaShareConsumer<String, String> consumer(String group, String topic, String... more) {
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", address, "group.id", group));
        for (int i = 0; i < more.length; i += 2) {
            settings.put(more[i], more[i + 1]);
        }
        KafkaShareConsumer<String, String> consumer = new KafkaShareConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
        consumer.subscribe(List.of(topic));
        return consumer;
    }

    private static KafkaShareConsumer<String, String> explicitly(String group, String topic, String... more) {
        String[] all = java.util.Arrays.copyOf(more, more.length + 2);
        all[more.length] = "share.acknowledgement.mode";
        all[more.length + 1] = "explicit";
        return consumer(group, topic, all);
    }

    private static List<ConsumerRecord<String, String>> poll(KafkaShareConsumer<String, String> consumer) {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        long deadline = System.currentTimeMillis() + 20_000;
        while (records.isEmpty() && System.currentTimeMillis() < deadline) {
            consumer.poll(Duration.ofMillis(500)).forEach(records::add);
        }
        return records;
    }

    private static void implicit() throws Exception {
        String topic = topic(3), group = group();
        send(topic, 300, "none");
        Set<String> seen = new HashSet<>();
        try (KafkaShareConsumer<String, String> consumer = consumer(group, topic)) {
            eventually("all records came", () -> {
                consumer.poll(Duration.ofMillis(500)).forEach(record -> {
                    same(record.deliveryCount().orElseThrow(), (short) 1, "delivery count");
                    seen.add(record.value());
                });
                return seen.size() == 300;
            });
            consumer.commitSync();
        }
        try (KafkaShareConsumer<String, String> consumer = consumer(group, topic)) {
            same(consumer.poll(Duration.ofSeconds(2)).count(), 0, "records after all were accepted");
        }
    }

    private static void explicit() throws Exception {
        String topic = topic(1), group = group();
        send(topic, 4, "none");
        try (KafkaShareConsumer<String, String> consumer = explicitly(group, topic)) {
            List<ConsumerRecord<String, String>> records = poll(consumer);
            same(records.size(), 4, "records");
            consumer.acknowledge(records.get(0), AcknowledgeType.ACCEPT);
            consumer.acknowledge(records.get(1), AcknowledgeType.RELEASE);
            consumer.acknowledge(records.get(2), AcknowledgeType.REJECT);
            consumer.acknowledge(records.get(3), AcknowledgeType.RELEASE);
            consumer.commitSync().forEach((partition, error) -> same(error.isPresent(), false, "error " + error));
            List<ConsumerRecord<String, String>> again = poll(consumer);
            same(again.stream().map(ConsumerRecord::offset).toList(), List.of(1L, 3L), "offsets again");
            same(again.get(0).deliveryCount().orElseThrow(), (short) 2, "delivery count");
            again.forEach(record -> consumer.acknowledge(record, AcknowledgeType.ACCEPT));
            consumer.commitSync();
        }
    }

    private static void limit() throws Exception {
        String topic = topic(1), group = group("share.delivery.count.limit", "3");
        send(topic, 1, "none");
        List<Integer> counts = new ArrayList<>();
        try (KafkaShareConsumer<String, String> consumer = explicitly(group, topic)) {
            for (int i = 0; i < 3; i++) {
                ConsumerRecord<String, String> record = poll(consumer).get(0);
                counts.add((int) record.deliveryCount().orElseThrow());
                consumer.acknowledge(record, AcknowledgeType.RELEASE);
                consumer.commitSync();
            }
            same(counts, List.of(1, 2, 3), "delivery counts");
            same(consumer.poll(Duration.ofSeconds(2)).count(), 0, "records after the limit");
        }
    }

    private static void shared() throws Exception {
        String topic = topic(1), group = group();
        Set<String> seen = new TreeSet<>();
        Set<Integer> took = new HashSet<>();
        try (KafkaShareConsumer<String, String> one = consumer(group, topic, "max.poll.records", "10");
             KafkaShareConsumer<String, String> two = consumer(group, topic, "max.poll.records", "10")) {
            one.poll(Duration.ofMillis(500));
            two.poll(Duration.ofMillis(500));
            for (int i = 0; i < 20; i++) {
                send(topic, 10, "none");
            }
            int[] total = {0};
            eventually("all came once", () -> {
                one.poll(Duration.ofMillis(200)).forEach(record -> { took.add(1); total[0]++; seen.add(record.offset() + ""); });
                two.poll(Duration.ofMillis(200)).forEach(record -> { took.add(2); total[0]++; seen.add(record.offset() + ""); });
                return seen.size() == 200;
            });
            same(total[0], 200, "deliveries");
            same(took, Set.of(1, 2), "consumers that had some");
        }
    }

    private static void closed() throws Exception {
        String topic = topic(1), group = group();
        send(topic, 5, "none");
        KafkaShareConsumer<String, String> gone = explicitly(group, topic);
        same(poll(gone).size(), 5, "records of the first");
        gone.close();
        try (KafkaShareConsumer<String, String> consumer = consumer(group, topic)) {
            List<ConsumerRecord<String, String>> records = poll(consumer);
            same(records.size(), 5, "records of the second");
            same(records.get(0).deliveryCount().orElseThrow(), (short) 2, "delivery count");
        }
    }

    private static void expires() throws Exception {
        String topic = topic(1), group = group("share.record.lock.duration.ms", "15000");
        send(topic, 1, "none");
        try (KafkaShareConsumer<String, String> slow = explicitly(group, topic);
             KafkaShareConsumer<String, String> other = explicitly(group, topic)) {
            ConsumerRecord<String, String> late = poll(slow).get(0);
            same(slow.acquisitionLockTimeoutMs().orElseThrow(), 15_000, "lock");
            ConsumerRecord<String, String> record = poll(other).get(0);
            same(record.deliveryCount().orElseThrow(), (short) 2, "delivery count");
            slow.acknowledge(late, AcknowledgeType.ACCEPT);
            Map<?, ?> refused = slow.commitSync();
            same(refused.values().toString().contains("InvalidRecordState"), true, "late: " + refused);
            other.acknowledge(record, AcknowledgeType.ACCEPT);
            other.commitSync().forEach((partition, error) -> same(error.isPresent(), false, "error " + error));
        }
    }

    private static void renewed() throws Exception {
        String topic = topic(1), group = group("share.record.lock.duration.ms", "15000");
        send(topic, 1, "none");
        try (KafkaShareConsumer<String, String> slow = explicitly(group, topic);
             KafkaShareConsumer<String, String> other = explicitly(group, topic)) {
            ConsumerRecord<String, String> record = poll(slow).get(0);
            long until = System.currentTimeMillis() + 20_000;
            while (System.currentTimeMillis() < until) {
                slow.acknowledge(record, AcknowledgeType.RENEW);
                slow.commitSync().forEach((partition, error) -> same(error.isPresent(), false, "error " + error));
                same(other.poll(Duration.ofSeconds(3)).count(), 0, "records of the other");
                slow.poll(Duration.ofMillis(10));
            }
            slow.acknowledge(record, AcknowledgeType.ACCEPT);
            slow.commitSync().forEach((partition, error) -> same(error.isPresent(), false, "error " + error));
        }
    }

    private static void recordLimit() throws Exception {
        String topic = topic(1), group = group();
        send(topic, 20, "none");
        try (KafkaShareConsumer<String, String> consumer =
                explicitly(group, topic, "max.poll.records", "3", "share.acquire.mode", "record_limit")) {
            List<ConsumerRecord<String, String>> records = poll(consumer);
            same(records.size(), 3, "records");
            records.forEach(record -> consumer.acknowledge(record, AcknowledgeType.ACCEPT));
            consumer.commitSync();
        }
    }

    private static void commitSync() throws Exception {
        String topic = topic(2), group = group();
        send(topic, 20, "none");
        Set<String> seen = new HashSet<>();
        try (KafkaShareConsumer<String, String> consumer = consumer(group, topic)) {
            eventually("all records came", () -> {
                consumer.poll(Duration.ofMillis(500)).forEach(record -> seen.add(record.value()));
                consumer.commitSync().forEach((partition, error) -> same(error.isPresent(), false, "error " + error));
                return seen.size() == 20;
            });
        }
    }

    private static void compressed() throws Exception {
        for (String codec : List.of("gzip", "snappy", "lz4", "zstd")) {
            String topic = topic(1), group = group();
            send(topic, 100, codec);
            Set<String> seen = new HashSet<>();
            try (KafkaShareConsumer<String, String> consumer = consumer(group, topic, "max.poll.records", "7")) {
                eventually("all of " + codec, () -> {
                    consumer.poll(Duration.ofMillis(500)).forEach(record -> seen.add(record.value()));
                    return seen.size() == 100;
                });
            }
        }
    }

    private static void many() throws Exception {
        String topic = topic(4), group = group();
        send(topic, 10_000, "lz4");
        Set<String> seen = new HashSet<>();
        int[] total = {0};
        try (KafkaShareConsumer<String, String> consumer = consumer(group, topic)) {
            eventually("all records came", () -> {
                consumer.poll(Duration.ofMillis(500)).forEach(record -> { seen.add(record.value()); total[0]++; });
                return seen.size() == 10_000;
            });
        }
        same(total[0], 10_000, "deliveries");
    }

    private static void describe() throws Exception {
        String topic = topic(2), group = group();
        try (KafkaShareConsumer<String, String> consumer = consumer(group, topic)) {
            consumer.poll(Duration.ofMillis(500));
            eventually("the member has its partitions", () -> {
                consumer.poll(Duration.ofMillis(100));
                var shown = admin.describeShareGroups(List.of(group)).all().get().get(group);
                return shown.groupState() == GroupState.STABLE && shown.members().size() == 1
                    && shown.members().iterator().next().assignment().topicPartitions().size() == 2;
            });
            same(admin.listGroups().all().get().stream().anyMatch(listed -> listed.groupId().equals(group)), true, "listed");
        }
        eventually("it is empty", () -> admin.describeShareGroups(List.of(group)).all().get().get(group).groupState() == GroupState.EMPTY);
        admin.deleteShareGroups(List.of(group)).all().get();
    }

    private static void offsets() throws Exception {
        String topic = topic(1), group = group();
        send(topic, 10, "none");
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaShareConsumer<String, String> consumer = consumer(group, topic)) {
            same(poll(consumer).size(), 10, "records");
            consumer.commitSync();
        }
        eventually("the lag is 0", () -> {
            var shown = admin.listShareGroupOffsets(Map.of(group, new ListShareGroupOffsetsSpec())).partitionsToOffsetInfo(group).get();
            return shown.get(partition) != null && shown.get(partition).lag().orElse(-1L) == 0;
        });
        admin.alterShareGroupOffsets(group, Map.of(partition, 4L)).all().get();
        try (KafkaShareConsumer<String, String> consumer = consumer(group, topic)) {
            same(poll(consumer).stream().map(ConsumerRecord::offset).toList(), List.of(4L, 5L, 6L, 7L, 8L, 9L), "offsets");
        }
        eventually("deleted", () -> {
            try {
                admin.deleteShareGroupOffsets(group, Set.of(topic)).all().get();
                return true;
            } catch (java.util.concurrent.ExecutionException busy) {
                return false;
            }
        });
        same(admin.listShareGroupOffsets(Map.of(group, new ListShareGroupOffsetsSpec())).partitionsToOffsetInfo(group).get().size(), 0, "offsets left");
    }
}
