package mainstem.compat.rabbitmq;

import static mainstem.compat.rabbitmq.Cases.add;
import static mainstem.compat.rabbitmq.Cases.check;
import static mainstem.compat.rabbitmq.Cases.eventually;

import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Recoverable;
import com.rabbitmq.client.RecoveryListener;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.springframework.amqp.AmqpException;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.rabbit.connection.CorrelationData;
import org.springframework.amqp.rabbit.listener.SimpleMessageListenerContainer;

/**
 * Clients that go on by themselves when the server has been killed and started again. Arguments: HOST:PORT CASE.
 * Prints READY when the server may be killed, and waits for a line when it is there again.
 */
public final class Restart {
  private Restart() {}

  private record AfterRecovery(CountDownLatch recovered) implements RecoveryListener {
    @Override
    public void handleRecovery(Recoverable recoverable) {
      recovered.countDown();
    }

    @Override
    public void handleRecoveryStarted(Recoverable recoverable) {}
  }

  static void restarted() throws Exception {
    System.out.println("READY");
    System.out.flush();
    check(new BufferedReader(new InputStreamReader(System.in)).readLine() != null, "the server is there again");
  }

  static void publish(Channel channel, String exchange, int from) throws Exception {
    for (int i = from; i < from + 10; i++) {
      channel.basicPublish(exchange, "order.placed", null, Amqp.bytes("order " + i));
    }
    channel.waitForConfirmsOrDie(20_000);
  }

  /** Whether it can be done now; the connection may have to recover first. */
  static boolean works(Cases.Case attempt) throws Exception {
    try {
      attempt.run();
      return true;
    } catch (java.io.IOException | com.rabbitmq.client.ShutdownSignalException | AmqpException error) {
      return false;
    }
  }

  static void java() throws Exception {
    ConnectionFactory factory = Amqp.factory();
    factory.setNetworkRecoveryInterval(200);
    Set<String> durable = ConcurrentHashMap.newKeySet();
    Set<String> exclusive = ConcurrentHashMap.newKeySet();
    CountDownLatch recovered = new CountDownLatch(1);
    try (Connection connection = factory.newConnection()) {
      ((Recoverable) connection).addRecoveryListener(new AfterRecovery(recovered));
      Channel channel = connection.createChannel();
      channel.exchangeDeclare("restart-java", "topic", true);
      channel.queueDeclare("restart-java", true, false, false, null);
      String own = channel.queueDeclare().getQueue();
      channel.queueBind("restart-java", "restart-java", "order.#");
      channel.queueBind(own, "restart-java", "order.*");
      channel.confirmSelect();
      channel.basicQos(5);
      channel.basicConsume(
          "restart-java",
          false,
          (tag, delivery) -> {
            durable.add(Amqp.text(delivery.getBody()));
            channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
          },
          tag -> {});
      channel.basicConsume(own, true, (tag, delivery) -> exclusive.add(Amqp.text(delivery.getBody())), tag -> {});
      publish(channel, "restart-java", 0);
      eventually(() -> durable.size() == 10 && exclusive.size() == 10, "ten orders");
      restarted();
      check(recovered.await(30, TimeUnit.SECONDS), "recovered");
      publish(channel, "restart-java", 10);
      eventually(() -> durable.size() == 20, "delivered to the consumer of the durable queue");
      eventually(() -> exclusive.size() == 20, "delivered to the consumer of the queue that was declared again");
    }
  }

  static void spring() throws Exception {
    Spring.spring(
        (connections, admin, template) -> {
          String queue = admin.declareQueue(new Queue("restart-spring", true, false, false));
          Set<String> received = ConcurrentHashMap.newKeySet();
          SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(connections);
          container.setRecoveryInterval(200);
          Spring.listen(container, admin, queue, message -> received.add(Spring.text(message)));
          template.convertAndSend("", queue, "order 0");
          eventually(() -> received.size() == 1, "an order");
          restarted();
          eventually(
              () ->
                  works(
                      () -> {
                        CorrelationData stored = new CorrelationData();
                        template.convertAndSend("", queue, (Object) "order 1", stored);
                        if (!stored.getFuture().get(20, TimeUnit.SECONDS).ack()) {
                          throw new AmqpException("not confirmed");
                        }
                      }),
              "published by a new channel");
          eventually(() -> received.contains("order 1"), "delivered to the listener");
          container.stop();
        });
  }

  public static void main(String[] arguments) throws Exception {
    add("java", Restart::java);
    add("spring", Restart::spring);
    Cases.main(arguments);
  }
}
