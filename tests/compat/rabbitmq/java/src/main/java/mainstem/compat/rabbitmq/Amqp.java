package mainstem.compat.rabbitmq;

import static mainstem.compat.rabbitmq.Cases.add;
import static mainstem.compat.rabbitmq.Cases.check;
import static mainstem.compat.rabbitmq.Cases.eventually;
import static mainstem.compat.rabbitmq.Cases.next;
import static mainstem.compat.rabbitmq.Cases.same;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AlreadyClosedException;
import com.rabbitmq.client.BuiltinExchangeType;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DefaultConsumer;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.Envelope;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.LongString;
import com.rabbitmq.client.Method;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.Recoverable;
import com.rabbitmq.client.RecoveryListener;
import com.rabbitmq.client.Return;
import com.rabbitmq.client.RpcClient;
import com.rabbitmq.client.RpcClientParams;
import com.rabbitmq.client.ShutdownSignalException;
import com.rabbitmq.client.StringRpcServer;
import com.rabbitmq.client.impl.CredentialsProvider;
import com.rabbitmq.client.impl.DefaultCredentialsRefreshService;
import java.math.BigDecimal;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Date;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;

/** RabbitMQ's client for Java against any server of AMQP 0-9-1. Arguments: HOST:PORT, then names of cases. */
public final class Amqp {
  interface OnChannel {
    void run(Channel channel) throws Exception;
  }

  static final byte[] ORDER = "{\"order\": 7, \"amount\": 12.5}".getBytes(StandardCharsets.UTF_8);

  private Amqp() {}

  static ConnectionFactory factory() {
    ConnectionFactory factory = new ConnectionFactory();
    factory.setHost(Cases.host);
    factory.setPort(Cases.port);
    return factory;
  }

  static void channel(OnChannel body) throws Exception {
    try (Connection connection = factory().newConnection()) {
      body.run(connection.createChannel());
    }
  }

  static byte[] bytes(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  static String text(byte[] body) {
    return new String(body, StandardCharsets.UTF_8);
  }

  static BlockingQueue<Delivery> consume(Channel channel, String queue, boolean autoAck) throws Exception {
    BlockingQueue<Delivery> received = new LinkedBlockingQueue<>();
    channel.basicConsume(queue, autoAck, (tag, delivery) -> received.add(delivery), tag -> {});
    return received;
  }

  /** The code with which the server closes the channel, or the connection, on what `body` does. */
  static int refused(OnChannel body) throws Exception {
    Connection connection = factory().newConnection();
    AtomicReference<ShutdownSignalException> reason = new AtomicReference<>();
    CountDownLatch closed = new CountDownLatch(1);
    try {
      Channel channel = connection.createChannel();
      channel.addShutdownListener(
          cause -> {
            reason.set(cause);
            closed.countDown();
          });
      try {
        body.run(channel);
      } catch (java.io.IOException | AlreadyClosedException error) {
        check(error instanceof AlreadyClosedException || error.getCause() != null, "a cause: " + error);
      }
      check(closed.await(20, TimeUnit.SECONDS), "the channel was closed");
    } finally {
      connection.abort();
    }
    Method method = (Method) reason.get().getReason();
    return method instanceof AMQP.Channel.Close
        ? ((AMQP.Channel.Close) method).getReplyCode()
        : ((AMQP.Connection.Close) method).getReplyCode();
  }

  static void properties() throws Exception {
    Map<String, Object> headers = new HashMap<>();
    headers.put("text", "Zürich");
    headers.put("int", 1 << 30);
    headers.put("long", 1L << 60);
    headers.put("true", true);
    headers.put("double", 1.5);
    headers.put("decimal", new BigDecimal("12.50"));
    headers.put("bytes", new byte[] {0, 1, (byte) 0xff});
    headers.put("none", null);
    headers.put("time", new Date(1_700_000_000_000L));
    headers.put("list", List.of(1, "two", false));
    headers.put("table", Map.of("short", (short) 7, "float", 2.5f, "byte", (byte) 3));
    AMQP.BasicProperties sent =
        new AMQP.BasicProperties.Builder()
            .contentType("application/json").contentEncoding("utf-8").headers(headers).deliveryMode(2)
            .priority(3).correlationId("c-1").replyTo("replies").expiration("60000").messageId("m-1")
            .timestamp(new Date(1_700_000_000_000L)).type("order").userId("guest").appId("shop").build();
    channel(
        channel -> {
          String queue = channel.queueDeclare().getQueue();
          channel.basicPublish("", queue, sent, ORDER);
          GetResponse response = poll(channel, queue);
          same(response.getBody(), ORDER, "body");
          AMQP.BasicProperties got = response.getProps();
          same(plain(got.getHeaders()), plain(headers), "headers");
          same(got.getContentType() + got.getContentEncoding() + got.getDeliveryMode() + got.getPriority()
              + got.getCorrelationId() + got.getReplyTo() + got.getExpiration() + got.getMessageId()
              + got.getType() + got.getUserId() + got.getAppId(),
              "application/jsonutf-823c-1replies60000m-1orderguestshop", "properties");
          same(got.getTimestamp(), sent.getTimestamp(), "timestamp");
        });
  }

  static GetResponse poll(Channel channel, String queue) throws Exception {
    AtomicReference<GetResponse> response = new AtomicReference<>();
    eventually(
        () -> {
          response.set(channel.basicGet(queue, true));
          return response.get() != null;
        },
        "a message in " + queue);
    return response.get();
  }

  static Object plain(Object value) {
    if (value instanceof LongString) {
      return value.toString();
    }
    if (value instanceof byte[]) {
      return text((byte[]) value);
    }
    if (value instanceof Map<?, ?>) {
      Map<Object, Object> copy = new HashMap<>();
      ((Map<?, ?>) value).forEach((key, item) -> copy.put(key, plain(item)));
      return copy;
    }
    if (value instanceof List<?>) {
      List<Object> copy = new ArrayList<>();
      ((List<?>) value).forEach(item -> copy.add(plain(item)));
      return copy;
    }
    return value;
  }

  static void confirms() throws Exception {
    channel(
        channel -> {
          String queue = channel.queueDeclare().getQueue();
          channel.confirmSelect();
          AtomicInteger confirmed = new AtomicInteger();
          TreeSet<Long> open = new TreeSet<>();
          channel.addConfirmListener(
              (tag, multiple) -> {
                synchronized (open) {
                  int before = open.size();
                  if (multiple) {
                    open.headSet(tag, true).clear();
                  } else {
                    open.remove(tag);
                  }
                  confirmed.addAndGet(before - open.size());
                }
              },
              (tag, multiple) -> confirmed.addAndGet(-10_000));
          for (int i = 0; i < 1_000; i++) {
            synchronized (open) {
              open.add(channel.getNextPublishSeqNo());
            }
            channel.basicPublish("", queue, MessageProperties.PERSISTENT_TEXT_PLAIN, bytes("order " + i));
          }
          channel.waitForConfirmsOrDie(30_000);
          eventually(() -> confirmed.get() == 1_000, "1,000 confirmations");
          same(channel.messageCount(queue), 1_000L, "messages");
          BlockingQueue<Delivery> received = consume(channel, queue, false);
          for (int i = 0; i < 1_000; i++) {
            Delivery delivery = next(received, "order " + i);
            same(text(delivery.getBody()), "order " + i, "order");
            channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
          }
        });
  }

  static void returns() throws Exception {
    channel(
        channel -> {
          BlockingQueue<Return> returned = new LinkedBlockingQueue<>();
          channel.addReturnListener(message -> returned.add(message));
          channel.confirmSelect();
          channel.basicPublish("amq.direct", "nowhere", true, MessageProperties.BASIC, ORDER);
          check(channel.waitForConfirms(20_000), "confirmed, too");
          Return message = next(returned, "a return");
          same(message.getReplyCode(), 312, "code");
          same(message.getBody(), ORDER, "body");
        });
  }

  static void errors() throws Exception {
    same(refused(channel -> channel.queueDeclarePassive("java-no-such")), 404, "passive");
    same(refused(channel -> channel.basicConsume("java-no-such", (t, d) -> {}, t -> {})), 404, "consume");
    same(refused(channel -> channel.basicPublish("java-no-such", "", null, ORDER)), 404, "publish");
    same(refused(channel -> channel.exchangeDeclare("amq.direct", "fanout", true)), 406, "other type");
    same(refused(channel -> channel.queueDeclare("amq.java", false, false, false, null)), 403, "reserved");
    same(refused(channel -> channel.basicAck(42, false)), 406, "unknown tag");
  }

  static void unknownConsumer() throws Exception {
    channel(
        channel -> {
          try {
            channel.basicCancel("java-no-such");
            throw new AssertionError("the client knows its consumers");
          } catch (java.io.IOException expected) {
            check(channel.isOpen(), "open");
          }
        });
  }

  static void notImplemented() throws Exception {
    same(refused(channel -> channel.basicRecover(false)), 540, "recover without requeue");
    same(refused(channel -> channel.basicPublish("", "x", false, true, null, ORDER)), 540, "immediate");
    same(refused(channel -> channel.queueDeclare("java-bad", false, false, false,
        Map.of("x-message-ttl", "soon"))), 406, "a time to live that is a text");
  }

  static void exclusive() throws Exception {
    channel(
        channel -> {
          channel.queueDeclare("java-mine", false, true, false, null);
          same(refused(other -> other.queueDeclarePassive("java-mine")), 405, "of another connection");
        });
  }

  /** Line feeds are stripped from names; arguments that mean nothing do not matter. */
  static void names() throws Exception {
    channel(
        channel -> {
          channel.queueDeclare("java\nnames\r", false, true, false, Map.of("x-nonsense", 1));
          channel.queueDeclare("javanames", false, true, false, Map.of("x-nonsense", "2"));
          channel.exchangeDeclare("java\nexchange", "direct", false, true, Map.of("x-nonsense", 1));
          channel.exchangeDeclare("javaexchange", "direct", false, true, Map.of("x-nonsense", "other"));
          channel.exchangeDelete("javaexchange");
        });
  }

  static void exchanges() throws Exception {
    channel(
        channel -> {
          String queue = channel.queueDeclare().getQueue();
          channel.exchangeDeclare("java-lost", BuiltinExchangeType.FANOUT, false, true, null);
          channel.exchangeDeclare("java-in", BuiltinExchangeType.TOPIC, false, true, Map.of("alternate-exchange", "java-lost"));
          channel.exchangeDeclare("java-headers", BuiltinExchangeType.HEADERS, false, true, null);
          channel.exchangeBind("java-headers", "java-in", "order.#");
          channel.queueBind(queue, "java-headers", "", Map.of("x-match", "all", "country", "CH", "rank", 1));
          channel.queueBind(queue, "java-lost", "");
          AMQP.BasicProperties swiss =
              new AMQP.BasicProperties.Builder().headers(Map.of("country", "CH", "rank", 1)).build();
          channel.basicPublish("java-in", "order.placed", swiss, bytes("by headers"));
          channel.basicPublish("java-in", "order.placed", MessageProperties.BASIC, bytes("nowhere"));
          channel.basicPublish("java-in", "flight", MessageProperties.BASIC, bytes("alternate"));
          same(text(poll(channel, queue).getBody()), "by headers", "first");
          same(text(poll(channel, queue).getBody()), "alternate", "second");
          channel.exchangeUnbind("java-headers", "java-in", "order.#");
          channel.queueUnbind(queue, "java-headers", "", Map.of("x-match", "all", "country", "CH", "rank", 1));
        });
  }

  static void transactions() throws Exception {
    channel(
        channel -> {
          String queue = channel.queueDeclare().getQueue();
          channel.txSelect();
          channel.basicPublish("", queue, null, ORDER);
          channel.txRollback();
          channel.basicPublish("", queue, null, ORDER);
          same(channel.messageCount(queue), 0L, "before the commit");
          channel.txCommit();
          same(channel.messageCount(queue), 1L, "after the commit");
          GetResponse response = channel.basicGet(queue, false);
          channel.basicAck(response.getEnvelope().getDeliveryTag(), false);
          channel.txRollback();
          channel.basicRecover(true);
          check(poll(channel, queue).getEnvelope().isRedeliver(), "redelivered");
          channel.txCommit();
        });
  }

  /** Two consumers with a prefetch of 1 share what comes; the one that does not answer gets no second. */
  static void fairness() throws Exception {
    channel(
        channel -> {
          String queue = channel.queueDeclare().getQueue();
          Channel other = channel.getConnection().createChannel();
          channel.basicQos(1);
          other.basicQos(1);
          BlockingQueue<Delivery> slow = consume(channel, queue, false);
          BlockingQueue<Delivery> fast = consume(other, queue, false);
          for (int i = 0; i < 10; i++) {
            channel.basicPublish("", queue, null, ORDER);
          }
          for (int i = 0; i < 9; i++) {
            other.basicAck(next(fast, "a message for the fast one").getEnvelope().getDeliveryTag(), false);
          }
          same(slow.size(), 1, "of the slow one");
        });
  }

  static void deadLetters() throws Exception {
    channel(
        channel -> {
          String dead = channel.queueDeclare().getQueue();
          Map<String, Object> arguments = new HashMap<>();
          arguments.put("x-queue-type", "quorum");
          arguments.put("x-delivery-limit", 2);
          arguments.put("x-dead-letter-exchange", "");
          arguments.put("x-dead-letter-routing-key", dead);
          channel.queueDeclare("java-limited", true, false, false, arguments);
          try {
            channel.basicPublish("", "java-limited", null, ORDER);
            BlockingQueue<Delivery> received = consume(channel, "java-limited", false);
            for (int i = 0; i < 3; i++) {
              Delivery delivery = next(received, "delivery " + i);
              Map<String, Object> headers = delivery.getProperties().getHeaders();
              Object count = headers == null ? null : headers.get("x-delivery-count");
              same(count == null ? 0L : ((Number) count).longValue(), (long) i, "x-delivery-count");
              channel.basicReject(delivery.getEnvelope().getDeliveryTag(), true);
            }
            Map<String, Object> headers = poll(channel, dead).getProps().getHeaders();
            Map<?, ?> death = (Map<?, ?>) ((List<?>) headers.get("x-death")).get(0);
            same(String.valueOf(death.get("reason")), "delivery_limit", "reason");
            same(String.valueOf(death.get("queue")), "java-limited", "queue");
          } finally {
            channel.queueDelete("java-limited");
          }
        });
  }

  static void timeToLive() throws Exception {
    channel(
        channel -> {
          String dead = channel.queueDeclare().getQueue();
          Map<String, Object> arguments = new HashMap<>();
          arguments.put("x-dead-letter-exchange", "");
          arguments.put("x-dead-letter-routing-key", dead);
          arguments.put("x-message-ttl", 100);
          channel.queueDeclare("java-short", false, true, false, arguments);
          for (int i = 0; i < 3; i++) {
            channel.basicPublish("", "java-short", null, bytes("order " + i));
          }
          for (int i = 0; i < 3; i++) {
            same(text(poll(channel, dead).getBody()), "order " + i, "in their order");
          }
        });
  }

  static void priorities() throws Exception {
    channel(
        channel -> {
          channel.queueDeclare("java-ranks", false, true, false, Map.of("x-max-priority", 10));
          channel.confirmSelect();
          for (int rank : new int[] {1, 9, 5}) {
            AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().priority(rank).build();
            channel.basicPublish("", "java-ranks", properties, bytes("rank " + rank));
          }
          channel.waitForConfirmsOrDie(20_000);
          for (int rank : new int[] {9, 5, 1}) {
            GetResponse response = poll(channel, "java-ranks");
            same(text(response.getBody()), "rank " + rank, "by rank");
            check(!response.getEnvelope().isRedeliver(), "a first delivery");
          }
        });
  }

  static void singleActive() throws Exception {
    channel(
        channel -> {
          channel.queueDeclare("java-single", false, true, false, Map.of("x-single-active-consumer", true));
          Channel second = channel.getConnection().createChannel();
          BlockingQueue<Delivery> first = consume(channel, "java-single", true);
          BlockingQueue<Delivery> next = consume(second, "java-single", true);
          Channel publisher = channel.getConnection().createChannel();
          for (int i = 0; i < 10; i++) {
            publisher.basicPublish("", "java-single", null, ORDER);
          }
          eventually(() -> first.size() == 10, "all to the first");
          channel.close();
          publisher.basicPublish("", "java-single", null, ORDER);
          next(next, "a message for the next");
        });
  }

  static void cancelled() throws Exception {
    channel(
        channel -> {
          channel.queueDeclare("java-cancelled", false, false, false, null);
          CountDownLatch cancelled = new CountDownLatch(1);
          channel.basicConsume(
              "java-cancelled",
              new DefaultConsumer(channel) {
                @Override
                public void handleCancel(String tag) {
                  cancelled.countDown();
                }
              });
          channel.getConnection().createChannel().queueDelete("java-cancelled");
          check(cancelled.await(20, TimeUnit.SECONDS), "cancelled by the server");
        });
  }

  static void rpc() throws Exception {
    channel(
        channel -> {
          String queue = channel.queueDeclare().getQueue();
          Channel serving = channel.getConnection().createChannel();
          StringRpcServer server =
              new StringRpcServer(serving, queue) {
                @Override
                public String handleStringCall(String request, AMQP.BasicProperties properties) {
                  return request.toUpperCase(java.util.Locale.ROOT);
                }
              };
          Thread thread =
              new Thread(
                  () -> {
                    try {
                      server.mainloop();
                    } catch (Exception ended) {
                      Thread.currentThread().interrupt();
                    }
                  });
          thread.start();
          RpcClient client = new RpcClient(new RpcClientParams().channel(channel).exchange("").routingKey(queue).timeout(20_000));
          for (int i = 0; i < 20; i++) {
            same(client.stringCall("flight " + i), "FLIGHT " + i, "answer");
          }
          client.close();
          server.terminateMainloop();
          thread.join(10_000);
        });
  }

  /** The socket breaks: the client's recovery declares its exclusive queue again, binds and consumes. */
  static void recovery() throws Exception {
    AtomicReference<Socket> socket = new AtomicReference<>();
    ConnectionFactory factory = factory();
    factory.setSocketConfigurator(
        plain -> {
          plain.setTcpNoDelay(true);
          socket.set(plain);
        });
    factory.setNetworkRecoveryInterval(200);
    try (Connection connection = factory.newConnection()) {
      CountDownLatch recovered = new CountDownLatch(1);
      ((Recoverable) connection)
          .addRecoveryListener(
              new RecoveryListener() {
                @Override
                public void handleRecovery(Recoverable recoverable) {
                  recovered.countDown();
                }

                @Override
                public void handleRecoveryStarted(Recoverable recoverable) {}
              });
      Channel channel = connection.createChannel();
      channel.exchangeDeclare("java-recovered", "topic", false, true, null);
      channel.queueDeclare("java-recovered", false, true, true, null);
      channel.queueBind("java-recovered", "java-recovered", "order.#");
      BlockingQueue<Delivery> received = consume(channel, "java-recovered", false);
      socket.get().close();
      check(recovered.await(30, TimeUnit.SECONDS), "recovered");
      channel.basicPublish("java-recovered", "order.placed", null, ORDER);
      Delivery delivery = next(received, "the order, after the recovery");
      channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
      channel.confirmSelect();
      channel.basicPublish("java-recovered", "order.placed", null, ORDER);
      channel.waitForConfirmsOrDie(20_000);
    }
  }

  /** What was delivered and not acknowledged comes again, marked, when its channel is closed. */
  static void redelivered() throws Exception {
    channel(
        channel -> {
          String queue = "java-redelivered";
          channel.queueDeclare(queue, false, true, false, null);
          channel.basicPublish("", queue, null, ORDER);
          Channel first = channel.getConnection().createChannel();
          check(!next(consume(first, queue, false), "an order").getEnvelope().isRedeliver(), "a first delivery");
          first.close();
          Envelope envelope = next(consume(channel, queue, true), "the order again").getEnvelope();
          check(envelope.isRedeliver(), "redelivered");
        });
  }

  static void heartbeats() throws Exception {
    ConnectionFactory factory = factory();
    factory.setRequestedHeartbeat(1);
    try (Connection connection = factory.newConnection()) {
      same(connection.getHeartbeat(), 1, "negotiated");
      Thread.sleep(4_000); // the client gives up after 2 s without a frame
      check(connection.isOpen(), "open");
      connection.createChannel().basicQos(1);
    }
  }

  static void limits() throws Exception {
    ConnectionFactory factory = factory();
    factory.setRequestedChannelMax(2);
    factory.setRequestedFrameMax(4096);
    try (Connection connection = factory.newConnection()) {
      same(connection.getFrameMax() + " " + connection.getChannelMax(), "4096 2", "negotiated");
      Channel channel = connection.createChannel();
      check(connection.createChannel() != null, "a second channel");
      same(connection.createChannel(), null, "no third");
      String queue = channel.queueDeclare().getQueue();
      byte[] large = new byte[1_000_000];
      java.util.Arrays.fill(large, (byte) 'x');
      channel.basicPublish("", queue, null, large);
      same(poll(channel, queue).getBody(), large, "in 250 frames");
      String name = "é".repeat(127) + "x";
      channel.queueDeclare(name, false, true, false, null);
      channel.basicPublish("", name, null, ORDER);
      same(poll(channel, name).getBody(), ORDER, "a name of 255 bytes");
    }
  }

  /** A password with an end: the client sends the next by connection.update-secret. */
  static void refreshed() throws Exception {
    AtomicInteger refreshes = new AtomicInteger();
    ConnectionFactory factory = factory();
    factory.setCredentialsProvider(
        new CredentialsProvider() {
          @Override
          public String getUsername() {
            return "guest";
          }

          @Override
          public String getPassword() {
            return "guest";
          }

          @Override
          public Duration getTimeBeforeExpiration() {
            return Duration.ofSeconds(1);
          }

          @Override
          public void refresh() {
            refreshes.incrementAndGet();
          }
        });
    factory.setCredentialsRefreshService(
        new DefaultCredentialsRefreshService.DefaultCredentialsRefreshServiceBuilder()
            .refreshDelayStrategy(DefaultCredentialsRefreshService.fixedDelayBeforeExpirationRefreshDelayStrategy(Duration.ofMillis(500)))
            .approachingExpirationStrategy(left -> false)
            .build());
    try (Connection connection = factory.newConnection()) {
      Channel channel = connection.createChannel();
      eventually(() -> refreshes.get() >= 2, "two refreshes");
      check(connection.isOpen(), "open");
      channel.queueDeclare();
    }
  }

  /** Many threads, a channel each: nothing is lost or mixed up. */
  static void threads() throws Exception {
    try (Connection connection = factory().newConnection()) {
      List<Thread> threads = new ArrayList<>();
      BlockingQueue<String> failures = new LinkedBlockingQueue<>();
      for (int i = 0; i < 10; i++) {
        int number = i;
        Thread thread =
            new Thread(
                () -> {
                  try (Channel channel = connection.createChannel()) {
                    String queue = channel.queueDeclare().getQueue();
                    channel.confirmSelect();
                    BlockingQueue<Delivery> received = consume(channel, queue, true);
                    for (int j = 0; j < 100; j++) {
                      channel.basicPublish("", queue, null, bytes(number + "/" + j));
                    }
                    channel.waitForConfirmsOrDie(30_000);
                    for (int j = 0; j < 100; j++) {
                      same(text(next(received, "message").getBody()), number + "/" + j, "in order");
                    }
                  } catch (Throwable failure) {
                    failures.add(String.valueOf(failure));
                  }
                });
        threads.add(thread);
        thread.start();
      }
      for (Thread thread : threads) {
        thread.join(50_000);
      }
      same(new ArrayList<>(failures), List.of(), "failures");
    }
  }

  public static void main(String[] arguments) throws Exception {
    add("properties", Amqp::properties);
    add("confirms", Amqp::confirms);
    add("returns", Amqp::returns);
    add("errors", Amqp::errors);
    add("unknown-consumer", Amqp::unknownConsumer);
    add("not-implemented", Amqp::notImplemented);
    add("exclusive", Amqp::exclusive);
    add("names", Amqp::names);
    add("exchanges", Amqp::exchanges);
    add("transactions", Amqp::transactions);
    add("fairness", Amqp::fairness);
    add("dead-letters", Amqp::deadLetters);
    add("time-to-live", Amqp::timeToLive);
    add("priorities", Amqp::priorities);
    add("single-active", Amqp::singleActive);
    add("cancelled", Amqp::cancelled);
    add("rpc", Amqp::rpc);
    add("recovery", Amqp::recovery);
    add("redelivered", Amqp::redelivered);
    add("heartbeats", Amqp::heartbeats);
    add("limits", Amqp::limits);
    add("refreshed", Amqp::refreshed);
    add("threads", Amqp::threads);
    Cases.main(arguments);
  }
}
