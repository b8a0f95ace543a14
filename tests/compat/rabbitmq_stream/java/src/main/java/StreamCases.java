import com.rabbitmq.stream.BackOffDelayPolicy;
import com.rabbitmq.stream.ByteCapacity;
import com.rabbitmq.stream.Constants;
import com.rabbitmq.stream.Consumer;
import com.rabbitmq.stream.Environment;
import com.rabbitmq.stream.Message;
import com.rabbitmq.stream.MessageBuilder;
import com.rabbitmq.stream.NoOffsetException;
import com.rabbitmq.stream.OffsetSpecification;
import com.rabbitmq.stream.Producer;
import com.rabbitmq.stream.ProducerBuilder;
import com.rabbitmq.stream.Resource;
import com.rabbitmq.stream.StreamDoesNotExistException;
import com.rabbitmq.stream.StreamException;
import com.rabbitmq.stream.compression.Compression;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.BiFunction;
import java.util.function.UnaryOperator;

/** RabbitMQ's stream client for Java: prints a line for each case. Arguments: the port, then names of cases. */
public class StreamCases {
  interface Case {
    void run(Environment environment) throws Exception;
  }

  static final BiFunction<MessageBuilder, Integer, MessageBuilder> PLAIN = (builder, number) -> builder;

  static void check(boolean condition, Object text) {
    if (!condition) {
      throw new AssertionError(String.valueOf(text));
    }
  }

  static void await(CountDownLatch latch, String text) throws InterruptedException {
    check(latch.await(60, TimeUnit.SECONDS), text + ": " + latch.getCount() + " are missing");
  }

  static String text(Message message) {
    return new String(message.getBodyAsBinary(), StandardCharsets.UTF_8);
  }

  static void publish(
      Environment environment,
      String stream,
      int count,
      UnaryOperator<ProducerBuilder> with,
      BiFunction<MessageBuilder, Integer, MessageBuilder> properties)
      throws Exception {
    Producer producer = with.apply(environment.producerBuilder().stream(stream)).build();
    CountDownLatch confirmed = new CountDownLatch(count);
    AtomicReference<Short> refused = new AtomicReference<>();
    for (int i = 0; i < count; i++) {
      byte[] body = ("event " + i).getBytes(StandardCharsets.UTF_8);
      Message message = properties.apply(producer.messageBuilder(), i).addData(body).build();
      producer.send(
          message,
          status -> {
            if (!status.isConfirmed()) {
              refused.set(status.getCode());
            }
            confirmed.countDown();
          });
    }
    await(confirmed, "confirms");
    check(refused.get() == null, "refused: " + refused.get());
    producer.close();
  }

  static List<Message> consume(Environment environment, String stream, OffsetSpecification from, int count)
      throws Exception {
    List<Message> received = Collections.synchronizedList(new ArrayList<>());
    CountDownLatch all = new CountDownLatch(count);
    Consumer consumer =
        environment
            .consumerBuilder()
            .stream(stream)
            .offset(from)
            .messageHandler(
                (context, message) -> {
                  received.add(message);
                  all.countDown();
                })
            .build();
    await(all, "messages");
    consumer.close();
    return received;
  }

  static void roundtrip(Environment environment) throws Exception {
    String stream = "roundtrip";
    environment.streamCreator().stream(stream).maxAge(Duration.ofHours(6)).maxLengthBytes(ByteCapacity.GB(1)).create();
    publish(
        environment,
        stream,
        20_000,
        builder -> builder,
        (builder, i) ->
            builder
                .properties()
                .messageId(i)
                .messageBuilder()
                .applicationProperties()
                .entry("number", i)
                .messageBuilder()
                .messageAnnotations()
                .entry("x-note", "n")
                .messageBuilder());
    List<Message> messages = consume(environment, stream, OffsetSpecification.first(), 20_000);
    for (int i = 0; i < 20_000; i++) {
      Message message = messages.get(i);
      check(text(message).equals("event " + i), "body " + i);
      check(message.getProperties().getMessageIdAsLong() == i, "message id " + i);
      check(message.getApplicationProperties().get("number").equals(i), "application property " + i);
      check(message.getMessageAnnotations().get("x-note").equals("n"), "annotation " + i);
    }
    check(text(consume(environment, stream, OffsetSpecification.offset(19_990), 10).get(0)).equals("event 19990"), "offset");
    check(text(consume(environment, stream, OffsetSpecification.timestamp(0), 1).get(0)).equals("event 0"), "timestamp");
    check(environment.queryStreamStats(stream).firstOffset() == 0, "first offset");
    check(environment.streamExists(stream) && !environment.streamExists("missing"), "exists");
  }

  static void compressed(Environment environment) throws Exception {
    environment.streamCreator().stream("compressed").create();
    for (Compression codec : Compression.values()) {
      publish(environment, "compressed", 1_000, builder -> builder.subEntrySize(50).compression(codec), PLAIN);
    }
    int count = 1_000 * Compression.values().length;
    List<Message> messages = consume(environment, "compressed", OffsetSpecification.first(), count);
    for (int i = 0; i < count; i++) {
      check(text(messages.get(i)).equals("event " + i % 1_000), "body " + i);
    }
  }

  static void named(Environment environment) throws Exception {
    environment.streamCreator().stream("named").create();
    for (int count : List.of(100, 150)) {
      publish(
          environment, "named", count, builder -> builder.name("shop"), (builder, i) -> builder.publishingId(i));
    }
    Producer producer = environment.producerBuilder().stream("named").name("shop").build();
    check(producer.getLastPublishingId() == 149, producer.getLastPublishingId());
    producer.close();
    List<Message> messages = consume(environment, "named", OffsetSpecification.first(), 150);
    check(text(messages.get(149)).equals("event 149"), "last");
    check(environment.queryStreamStats("named").committedChunkId() == 149, "stored once");
  }

  static void tracked(Environment environment) throws Exception {
    environment.streamCreator().stream("tracked").create();
    publish(environment, "tracked", 100, builder -> builder, PLAIN);
    CountDownLatch fifty = new CountDownLatch(50);
    Consumer consumer =
        environment
            .consumerBuilder()
            .stream("tracked")
            .name("billing")
            .offset(OffsetSpecification.first())
            .manualTrackingStrategy()
            .builder()
            .messageHandler(
                (context, message) -> {
                  if (context.offset() == 49) {
                    context.storeOffset();
                  }
                  fifty.countDown();
                })
            .build();
    await(fifty, "messages");
    long stored = -1;
    for (int i = 0; i < 600 && stored != 49; i++) {
      try {
        stored = consumer.storedOffset();
      } catch (NoOffsetException error) {
        Thread.sleep(50);
      }
    }
    check(stored == 49, stored);
    consumer.close();
    BlockingQueue<Long> offsets = new LinkedBlockingQueue<>();
    consumer =
        environment
            .consumerBuilder()
            .stream("tracked")
            .name("billing")
            .autoTrackingStrategy()
            .builder()
            .messageHandler((context, message) -> offsets.add(context.offset()))
            .build();
    check(offsets.poll(60, TimeUnit.SECONDS) == 50L, "goes on behind the stored offset");
    consumer.close();
  }

  static void superStream(Environment environment) throws Exception {
    environment.streamCreator().name("invoices").superStream().partitions(3).creator().create();
    Producer producer =
        environment
            .producerBuilder()
            .superStream("invoices")
            .routing(message -> message.getProperties().getMessageIdAsString())
            .producerBuilder()
            .build();
    CountDownLatch confirmed = new CountDownLatch(300);
    for (int i = 0; i < 300; i++) {
      MessageBuilder builder = producer.messageBuilder().properties().messageId("invoice-" + i).messageBuilder();
      producer.send(builder.addData(new byte[10]).build(), status -> confirmed.countDown());
    }
    await(confirmed, "confirms");
    producer.close();
    CountDownLatch all = new CountDownLatch(300);
    List<Consumer> consumers = new ArrayList<>();
    for (int i = 0; i < 3; i++) {
      consumers.add(
          environment
              .consumerBuilder()
              .superStream("invoices")
              .name("billing")
              .singleActiveConsumer()
              .offset(OffsetSpecification.first())
              .autoTrackingStrategy()
              .builder()
              .messageHandler((context, message) -> all.countDown())
              .build());
    }
    await(all, "messages");
    consumers.forEach(Consumer::close);
    environment.deleteSuperStream("invoices");
    check(!environment.streamExists("invoices-0"), "deleted");
  }

  static void singleActive(Environment environment) throws Exception {
    environment.streamCreator().stream("single").create();
    publish(environment, "single", 10, builder -> builder, PLAIN);
    BlockingQueue<String> received = new LinkedBlockingQueue<>();
    List<Consumer> consumers = new ArrayList<>();
    for (String name : List.of("first", "second")) {
      consumers.add(
          environment
              .consumerBuilder()
              .stream("single")
              .name("billing")
              .singleActiveConsumer()
              .offset(OffsetSpecification.first())
              .manualTrackingStrategy()
              .builder()
              .messageHandler(
                  (context, message) -> {
                    if (context.offset() == 9) {
                      context.storeOffset();
                    }
                    received.add(name);
                  })
              .build());
    }
    for (int i = 0; i < 10; i++) {
      check("first".equals(received.poll(60, TimeUnit.SECONDS)), "the first consumer is active");
    }
    for (int i = 0; i < 600; i++) {
      try {
        if (consumers.get(0).storedOffset() == 9) {
          break;
        }
      } catch (NoOffsetException error) {
        Thread.sleep(50);
      }
    }
    consumers.get(0).close();
    publish(environment, "single", 5, builder -> builder, PLAIN);
    for (int i = 0; i < 5; i++) {
      check("second".equals(received.poll(60, TimeUnit.SECONDS)), "the second consumer takes over");
    }
    check(received.isEmpty(), "nothing twice");
    consumers.get(1).close();
  }

  static void filtered(Environment environment) throws Exception {
    environment.streamCreator().stream("filtered").create();
    publish(
        environment,
        "filtered",
        1_000,
        builder -> builder.filterValue(m -> String.valueOf(m.getApplicationProperties().get("region"))),
        (builder, i) ->
            builder.applicationProperties().entry("region", i % 2 == 0 ? "emea" : "apac").messageBuilder());
    CountDownLatch half = new CountDownLatch(500);
    Consumer consumer =
        environment
            .consumerBuilder()
            .stream("filtered")
            .offset(OffsetSpecification.first())
            .filter()
            .values("apac")
            .postFilter(message -> "apac".equals(message.getApplicationProperties().get("region")))
            .builder()
            .messageHandler((context, message) -> half.countDown())
            .build();
    await(half, "messages");
    consumer.close();
  }

  static void refused(Environment environment) throws Exception {
    for (int i = 0; i < 2; i++) {
      environment.streamCreator().stream("refused").maxAge(Duration.ofHours(1)).create();
    }
    short code = 0;
    try {
      environment.streamCreator().stream("refused").maxAge(Duration.ofHours(2)).create();
    } catch (StreamException error) {
      code = error.getCode();
    }
    check(code == Constants.RESPONSE_CODE_PRECONDITION_FAILED, "other arguments: " + code);
    try {
      environment.deleteStream("missing");
    } catch (StreamException error) {
      code = error.getCode();
    }
    check(code == Constants.RESPONSE_CODE_STREAM_DOES_NOT_EXIST, "delete: " + code);
    try {
      environment.producerBuilder().stream("missing").build();
      check(false, "a producer of a stream that does not exist");
    } catch (StreamDoesNotExistException error) {
      environment.deleteStream("refused");
    }
  }

  static void deleted(Environment environment) throws Exception {
    environment.streamCreator().stream("deleted").create();
    CountDownLatch closed = new CountDownLatch(1);
    environment
        .consumerBuilder()
        .stream("deleted")
        .listeners(
            change -> {
              if (change.currentState() == Resource.State.CLOSED) {
                closed.countDown();
              }
            })
        .messageHandler((context, message) -> {})
        .build();
    environment.deleteStream("deleted");
    await(closed, "the end of the consumer");
  }

  public static void main(String[] arguments) {
    Map<String, Case> cases = new LinkedHashMap<>();
    cases.put("roundtrip", StreamCases::roundtrip);
    cases.put("compressed", StreamCases::compressed);
    cases.put("named", StreamCases::named);
    cases.put("tracked", StreamCases::tracked);
    cases.put("super_stream", StreamCases::superStream);
    cases.put("single_active", StreamCases::singleActive);
    cases.put("filtered", StreamCases::filtered);
    cases.put("refused", StreamCases::refused);
    cases.put("deleted", StreamCases::deleted);
    Duration second = Duration.ofSeconds(1);
    cases.forEach(
        (name, test) -> {
          if (arguments.length > 1 && !List.of(arguments).contains(name)) {
            return;
          }
          try (Environment environment =
              Environment.builder()
                  .host("127.0.0.1")
                  .port(Integer.parseInt(arguments[0]))
                  .recoveryBackOffDelayPolicy(BackOffDelayPolicy.fixed(second))
                  .topologyUpdateBackOffDelayPolicy(
                      BackOffDelayPolicy.fixedWithInitialDelay(second, second, Duration.ofSeconds(5)))
                  .build()) {
            test.run(environment);
            System.out.println("PASS " + name);
          } catch (Throwable error) {
            System.out.println("FAIL " + name + ": " + error);
          }
        });
    System.exit(0);
  }
}
