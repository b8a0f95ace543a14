package mainstem.compat;

import static mainstem.compat.Cases.eventually;
import static mainstem.compat.Cases.fresh;
import static mainstem.compat.Cases.same;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.apache.kafka.common.utils.internals.Exit;

/**
 * Kafka's own command-line tools against a server, all in this one JVM: `Tools ADDRESS [CASE...]`, and Kafka's dump
 * tool over the segment files of a server that has stopped: `Tools FOLDER [CASE...]`.
 */
public final class Tools {
    private static final String TOPICS = "org.apache.kafka.tools.TopicCommand";
    private static final String GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    private static final String CONFIGS = "org.apache.kafka.tools.ConfigCommand";
    private static final String CONSOLE_PRODUCER = "org.apache.kafka.tools.ConsoleProducer";
    private static final String CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer";
    private static final String OFFSETS = "org.apache.kafka.tools.GetOffsetShell";
    private static final String DUMP = "org.apache.kafka.tools.DumpLogSegments";
    private static final InputStream STDIN = System.in;
    private static final PrintStream STDOUT = System.out;
    private static final PrintStream STDERR = System.err;
    private static String address;
    private static Path data;

    private static Integer code;
    private static final List<Runnable> atTheEnd = new ArrayList<>();

    /** What a tool's call of exit becomes. Some tools catch it and exit again: the first code counts. */
    private static final class Ended extends Error {
        Ended(int code) {
            super("exit " + code);
            Tools.code = Tools.code == null ? code : Tools.code;
        }
    }

    public static void main(String[] arguments) {
        address = arguments[0];
        data = Path.of(arguments[0]);
        Exit.setExitProcedure((code, message) -> {
            throw new Ended(code);
        });
        Exit.setHaltProcedure((code, message) -> {
            throw new Ended(code);
        });
        Exit.setShutdownHookAdder((name, hook) -> atTheEnd.add(hook));
        Cases cases = new Cases();
        if (Files.isDirectory(data)) {
            cases.add("dump-log-deep-iteration", Tools::dumpDeep);
            cases.add("dump-log-verify-index", () -> dumpIndexes("--verify-index-only"));
            cases.add("dump-log-index-sanity", () -> dumpIndexes("--index-sanity-check"));
            cases.run(Arrays.copyOfRange(arguments, 1, arguments.length));
        }
        cases.add("topics-create-list-describe", Tools::topics);
        cases.add("topics-alter", Tools::topicsAlter);
        cases.add("topics-delete", Tools::topicsDelete);
        cases.add("console-producer-and-consumer", Tools::console);
        cases.add("console-consumer-from-offset", Tools::consoleFromOffset);
        cases.add("consumer-groups-list-describe", Tools::groups);
        cases.add("consumer-groups-reset-offsets", Tools::groupsReset);
        cases.add("consumer-groups-delete", Tools::groupsDelete);
        cases.add("groups-list", Tools::groupsList);
        cases.add("configs-describe", Tools::configsDescribe);
        cases.add("configs-alter", Tools::configsAlter);
        cases.add("get-offsets", Tools::getOffsets);
        cases.add("delete-records", Tools::deleteRecords);
        cases.add("log-dirs", Tools::logDirs);
        cases.add("broker-api-versions", Tools::apiVersions);
        cases.add("transactions-describe-producers", Tools::describeProducers);
        cases.add("leader-election", Tools::leaderElection);
        cases.add("reassign-partitions", Tools::reassign);
        cases.add("metadata-quorum", Tools::quorum);
        cases.add("configs-of-users-and-clients", Tools::configsOfUsers);
        cases.add("acls-without-an-authorizer", Tools::acls);
        cases.add("verifiable-producer-and-consumer", Tools::verifiable);
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            cases.add("producer-perf-" + codec, () -> producerPerf(codec));
        }
        cases.add("consumer-perf", Tools::consumerPerf);
        cases.run(Arrays.copyOfRange(arguments, 1, arguments.length));
    }

    // Running a tool.

    private static String tool(String name, String... arguments) throws Exception {
        return toolWithInput("", name, arguments);
    }

    /** Runs a tool's main; its output; an AssertionError with the output unless it ends with 0. */
    private static String toolWithInput(String input, String name, String... arguments) throws Exception {
        ByteArrayOutputStream output = new ByteArrayOutputStream();
        PrintStream into = new PrintStream(output, true, StandardCharsets.UTF_8);
        code = null;
        try {
            System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
            System.setOut(into);
            System.setErr(into);
            Class.forName(name).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException error) {
            if (!(error.getCause() instanceof Ended)) {
                throw new AssertionError(name + " threw " + error.getCause() + ": " + output, error.getCause());
            }
        } finally {
            for (Runnable hook : atTheEnd) {
                hook.run();
            }
            atTheEnd.clear();
            into.flush();
            System.setIn(STDIN);
            System.setOut(STDOUT);
            System.setErr(STDERR);
        }
        String text = output.toString(StandardCharsets.UTF_8);
        if (code != null && code != 0) {
            throw new AssertionError(name + " " + String.join(" ", arguments) + " ended with " + code + ": " + text);
        }
        return text;
    }

    private static String admin(String name, String... arguments) throws Exception {
        return tool(name, Stream.concat(Stream.of("--bootstrap-server", address), Arrays.stream(arguments)).toArray(String[]::new));
    }

    /** For tools that finish their work in a shutdown hook of the JVM: one of their own. */
    private static String process(String name, String... arguments) throws Exception {
        List<String> command = new ArrayList<>(List.of("java", "-XX:TieredStopAtLevel=1", "-cp", System.getProperty("java.class.path"), name, "--bootstrap-server", address));
        command.addAll(List.of(arguments));
        Process process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.DISCARD).start();
        String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        same(process.waitFor(), 0, "exit code of " + name + ": " + said.substring(Math.max(0, said.length() - 300)));
        return said;
    }

    private static void contains(String text, String... parts) {
        for (String part : parts) {
            same(text.contains(part), true, "has '" + part + "': " + text.substring(Math.max(0, text.length() - 300)));
        }
    }

    private static String topic(int partitions) throws Exception {
        String name = fresh("tools");
        admin(TOPICS, "--create", "--topic", name, "--partitions", "" + partitions, "--replication-factor", "1");
        return name;
    }

    private static void produce(String name, String... lines) throws Exception {
        toolWithInput(String.join("\n", lines) + "\n", CONSOLE_PRODUCER, "--bootstrap-server", address, "--topic", name);
    }

    private static String consume(String name, int count, String... more) throws Exception {
        List<String> arguments = new ArrayList<>(List.of("--topic", name, "--max-messages", "" + count, "--timeout-ms", "20000"));
        arguments.addAll(List.of(more));
        return admin(CONSOLE_CONSUMER, arguments.toArray(String[]::new));
    }

    private static String[] lines(int count) {
        return IntStream.range(0, count).mapToObj(i -> "line " + i).toArray(String[]::new);
    }

    // Topics.

    private static void topics() throws Exception {
        String name = fresh("tools");
        contains(admin(TOPICS, "--create", "--topic", name, "--partitions", "3", "--config", "retention.ms=60000"), "Created topic " + name);
        contains(admin(TOPICS, "--list"), name);
        String described = admin(TOPICS, "--describe", "--topic", name);
        contains(described, "PartitionCount: 3", "ReplicationFactor: 1", "retention.ms=60000", "Partition: 2\tLeader: 1\tReplicas: 1\tIsr: 1");
        contains(admin(TOPICS, "--create", "--if-not-exists", "--topic", name), "");
    }

    private static void topicsAlter() throws Exception {
        String name = topic(1);
        admin(TOPICS, "--alter", "--topic", name, "--partitions", "4");
        eventually("4 partitions", () -> admin(TOPICS, "--describe", "--topic", name).contains("PartitionCount: 4"));
    }

    private static void topicsDelete() throws Exception {
        String name = topic(1);
        admin(TOPICS, "--delete", "--topic", name);
        eventually("gone", () -> !admin(TOPICS, "--list").contains(name));
    }

    // Console.

    private static void console() throws Exception {
        String name = topic(1);
        toolWithInput("h1:1,h2:2\tk1\tfirst\nh1:x\tk2\tNULL\n", CONSOLE_PRODUCER, "--bootstrap-server", address, "--topic", name,
            "--reader-property", "parse.key=true", "--reader-property", "parse.headers=true", "--reader-property", "null.marker=NULL");
        String read = consume(name, 2, "--from-beginning", "--formatter-property", "print.key=true", "--formatter-property", "print.headers=true",
            "--formatter-property", "print.offset=true", "--formatter-property", "print.partition=true", "--formatter-property", "print.timestamp=true");
        contains(read, "CreateTime:", "Partition:0\tOffset:0\th1:1,h2:2\tk1\tfirst", "Offset:1\th1:x\tk2\tnull");
    }

    private static void consoleFromOffset() throws Exception {
        String name = topic(1);
        produce(name, lines(20));
        String read = consume(name, 3, "--partition", "0", "--offset", "17");
        same(read.lines().filter(l -> l.startsWith("line")).toList(), List.of("line 17", "line 18", "line 19"), "lines");
    }

    // Groups.

    private static String[] group() throws Exception {
        String name = topic(1);
        String group = fresh("tools-group");
        produce(name, lines(10));
        consume(name, 4, "--from-beginning", "--group", group);
        return new String[] {name, group};
    }

    private static void groups() throws Exception {
        String[] made = group();
        contains(admin(GROUPS, "--list"), made[1]);
        contains(admin(GROUPS, "--list", "--state"), made[1], "Empty");
        List<String> row = List.of(admin(GROUPS, "--describe", "--group", made[1]).lines().filter(l -> l.startsWith(made[1])).findFirst().orElse("").trim().split("\\s+"));
        same(row.subList(0, 6), List.of(made[1], made[0], "0", "4", "10", "6"), "group, topic, partition, offset, end, lag");
        contains(admin(GROUPS, "--describe", "--group", made[1], "--state"), "Empty", address);
        contains(admin(GROUPS, "--describe", "--group", made[1], "--members"), "has no active members");
    }

    private static void groupsReset() throws Exception {
        String[] made = group();
        contains(admin(GROUPS, "--reset-offsets", "--group", made[1], "--topic", made[0], "--to-offset", "7", "--execute"), " 7");
        contains(consume(made[0], 1, "--group", made[1]), "line 7");
        contains(admin(GROUPS, "--reset-offsets", "--group", made[1], "--topic", made[0], "--to-earliest", "--dry-run"), " 0");
        contains(admin(GROUPS, "--reset-offsets", "--group", made[1], "--topic", made[0], "--by-duration", "PT1H", "--execute"), " 0");
    }

    private static void groupsDelete() throws Exception {
        String[] made = group();
        contains(admin(GROUPS, "--delete-offsets", "--group", made[1], "--topic", made[0]), "Successful");
        contains(admin(GROUPS, "--delete", "--group", made[1]), "was successful");
        same(admin(GROUPS, "--list").contains(made[1]), false, "still listed");
    }

    private static void groupsList() throws Exception {
        String[] made = group();
        contains(admin("org.apache.kafka.tools.GroupsCommand", "--list"), made[1], "Classic", "consumer");
    }

    // Settings.

    private static void configsDescribe() throws Exception {
        String name = topic(1);
        contains(admin(CONFIGS, "--describe", "--entity-type", "topics", "--entity-name", name, "--all"), "retention.ms=604800000", "cleanup.policy=delete");
        contains(admin(CONFIGS, "--describe", "--entity-type", "brokers", "--entity-name", "1", "--all"), "num.partitions=1");
    }

    private static void configsAlter() throws Exception {
        String name = topic(1);
        String[] which = {"--alter", "--entity-type", "topics", "--entity-name", name};
        contains(admin(CONFIGS, which[0], which[1], which[2], which[3], which[4], "--add-config", "retention.ms=1234567"), "Completed updating");
        eventually("set", () -> admin(CONFIGS, "--describe", "--entity-type", "topics", "--entity-name", name).contains("retention.ms=1234567"));
        contains(admin(CONFIGS, which[0], which[1], which[2], which[3], which[4], "--delete-config", "retention.ms"), "Completed updating");
        eventually("deleted", () -> !admin(CONFIGS, "--describe", "--entity-type", "topics", "--entity-name", name).contains("retention.ms=1234567"));
    }

    // Offsets, records, cluster.

    private static void getOffsets() throws Exception {
        String name = topic(2);
        produce(name, lines(10));
        int sum = 0;
        for (String line : admin(OFFSETS, "--topic", name).split("\n")) {
            sum += Integer.parseInt(line.substring(line.lastIndexOf(':') + 1).trim());
        }
        same(sum, 10, "records in both partitions");
        for (String time : List.of("earliest", "latest", "max-timestamp", "-1", "-2", "1000")) {
            contains(admin(OFFSETS, "--topic", name, "--time", time), name + ":");
        }
    }

    private static void deleteRecords() throws Exception {
        String name = topic(1);
        produce(name, lines(10));
        Path file = Files.createTempFile("delete-records", ".json");
        Files.writeString(file, "{\"partitions\":[{\"topic\":\"" + name + "\",\"partition\":0,\"offset\":6}],\"version\":1}");
        contains(admin("org.apache.kafka.tools.DeleteRecordsCommand", "--offset-json-file", file.toString()), "low_watermark: 6");
        Files.delete(file);
        contains(admin(OFFSETS, "--topic", name, "--time", "earliest"), name + ":0:6");
    }

    private static void logDirs() throws Exception {
        String name = topic(1);
        produce(name, lines(10));
        contains(admin("org.apache.kafka.tools.LogDirsCommand", "--describe", "--topic-list", name), "\"partition\":\"" + name + "-0\"", "\"error\":null");
    }

    private static void apiVersions() throws Exception {
        contains(admin("org.apache.kafka.tools.BrokerApiVersionsCommand"), "Produce(0): 0 to ", "Fetch(1): 4 to ", "ApiVersions(18): 0 to ");
    }

    private static void describeProducers() throws Exception {
        String name = topic(1);
        produce(name, lines(3));
        contains(admin("org.apache.kafka.tools.TransactionsCommand", "describe-producers", "--topic", name, "--partition", "0"), "ProducerId", "LastSequence");
    }

    // What a cluster has and one node has not.

    private static void leaderElection() throws Exception {
        String command = "org.apache.kafka.tools.LeaderElectionCommand";
        String name = topic(2);
        contains(admin(command, "--election-type", "preferred", "--topic", name, "--partition", "1"), "Valid replica already elected for partitions " + name + "-1");
        admin(command, "--election-type", "unclean", "--all-topic-partitions");
    }

    private static void reassign() throws Exception {
        String command = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
        String name = topic(1);
        Path file = Files.createTempFile("reassign", ".json");
        Files.writeString(file, "{\"version\":1,\"partitions\":[{\"topic\":\"" + name + "\",\"partition\":0,\"replicas\":[1],\"log_dirs\":[\"any\"]}]}");
        contains(admin(command, "--list"), "No partition reassignments found");
        contains(admin(command, "--execute", "--reassignment-json-file", file.toString()), "Successfully started partition reassignment for " + name + "-0");
        contains(admin(command, "--verify", "--reassignment-json-file", file.toString()), "Reassignment of partition " + name + "-0 is completed");
        contains(admin(command, "--cancel", "--reassignment-json-file", file.toString()), "None of the specified partition reassignments are active");
        Files.delete(file);
    }

    private static void quorum() throws Exception {
        String command = "org.apache.kafka.tools.MetadataQuorumCommand";
        contains(admin(command, "describe", "--status"), "LeaderId:               1\n", "CurrentVoters:          [{\"id\": 1");
        contains(admin(command, "describe", "--replication"), "Leader");
    }

    private static void configsOfUsers() throws Exception {
        for (String kind : List.of("users", "clients", "ips")) {
            admin(CONFIGS, "--describe", "--entity-type", kind);
        }
    }

    private static void acls() throws Exception {
        try {
            admin("org.apache.kafka.tools.AclCommand", "--list");
        } catch (AssertionError refused) {
            contains(refused.getMessage(), "SecurityDisabledException");
            return;
        }
        throw new AssertionError("access rules were listed");
    }

    // Load.

    private static void verifiable() throws Exception {
        String name = topic(2);
        String sent = process("org.apache.kafka.tools.VerifiableProducer", "--topic", name, "--max-messages", "2000", "--throughput", "-1");
        contains(sent, "\"sent\":2000", "\"acked\":2000");
        String read = process("org.apache.kafka.tools.VerifiableConsumer", "--topic", name, "--group-id", fresh("verify"), "--max-messages", "2000", "--reset-policy", "earliest");
        contains(read, "partitions_assigned", "\"name\":\"offsets_committed\"", "\"success\":true", "shutdown_complete");
    }

    private static void producerPerf(String codec) throws Exception {
        String name = topic(3);
        String said = tool("org.apache.kafka.tools.ProducerPerformance", "--topic", name, "--num-records", "20000", "--record-size", "200", "--throughput", "-1",
            "--bootstrap-server", address, "--command-property", "compression.type=" + codec, "--command-property", "batch.size=4096");
        contains(said, "20000 records sent");
    }

    private static void consumerPerf() throws Exception {
        String name = topic(3);
        tool("org.apache.kafka.tools.ProducerPerformance", "--topic", name, "--num-records", "20000", "--record-size", "200", "--throughput", "-1", "--bootstrap-server", address);
        contains(admin("org.apache.kafka.tools.ConsumerPerformance", "--topic", name, "--num-records", "20000", "--timeout", "20000", "--reporting-interval", "1000"), ", 20000, ");
    }

    // Kafka's dump tool over the server's files.

    private static List<Path> files(String suffix) throws Exception {
        try (Stream<Path> all = Files.walk(data)) {
            return all.filter(p -> p.getFileName().toString().matches("\\d{20}\\" + suffix)).filter(p -> p.toFile().length() > 0)
                .filter(p -> !p.getParent().getFileName().toString().startsWith("__")).sorted().collect(Collectors.toList());
        }
    }

    private static String names(List<Path> files) {
        return files.stream().map(Path::toString).collect(Collectors.joining(","));
    }

    private static void whole(String said) {
        for (String bad : List.of("Mismatches in", "not found", "Invalid", "invalid bytes", "isvalid: false", "Could not")) {
            int at = said.indexOf(bad);
            same(at < 0 ? "" : said.substring(Math.max(0, at - 300), Math.min(said.length(), at + 500)), "", "dump says '" + bad + "'");
        }
    }

    /** The tool says "-1 is followed by N" of each file that does not begin at 0: that is no gap. */
    private static final Pattern GAP = Pattern.compile("^  \\d+ is followed by \\d+", Pattern.MULTILINE);

    private static void dumpDeep() throws Exception {
        List<Path> logs = files(".log");
        same(logs.size() > 3, true, "segments found in " + data);
        String said = tool(DUMP, "--files", names(logs), "--deep-iteration");
        whole(said);
        same(GAP.matcher(said).find(), false, "gap between two batches");
        same(said.split("isvalid: true", -1).length > logs.size(), true, "batches were checked");
    }

    private static void dumpIndexes(String how) throws Exception {
        List<Path> indexes = files(".index");
        indexes.addAll(files(".timeindex"));
        same(indexes.size() > 3, true, "index files found in " + data);
        whole(tool(DUMP, "--files", names(indexes), how));
    }
}
