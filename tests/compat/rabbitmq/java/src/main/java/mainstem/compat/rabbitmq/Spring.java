package mainstem.compat.rabbitmq;

import static mainstem.compat.rabbitmq.Cases.add;
import static mainstem.compat.rabbitmq.Cases.check;
import static mainstem.compat.rabbitmq.Cases.eventually;
import static mainstem.compat.rabbitmq.Cases.next;
import static mainstem.compat.rabbitmq.Cases.same;

import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.springframework.amqp.AmqpRejectAndDontRequeueException;
import org.springframework.amqp.core.AcknowledgeMode;
import org.springframework.amqp.core.BindingBuilder;
import org.springframework.amqp.core.Message;
import org.springframework.amqp.core.MessageListener;
import org.springframework.amqp.core.MessageProperties;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.core.QueueBuilder;
import org.springframework.amqp.core.TopicExchange;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory;
import org.springframework.amqp.rabbit.connection.CorrelationData;
import org.springframework.amqp.rabbit.core.RabbitAdmin;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.listener.AbstractMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.DirectMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.SimpleMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.adapter.MessageListenerAdapter;

/** Spring AMQP, without Spring Boot, against any server of AMQP 0-9-1. Arguments: HOST:PORT, then names of cases. */
public final class Spring {
  interface OnFactory {
    void run(CachingConnectionFactory connections, RabbitAdmin admin, RabbitTemplate template) throws Exception;
  }

  private Spring() {}

  static void spring(OnFactory body) throws Exception {
    CachingConnectionFactory connections = new CachingConnectionFactory(Cases.host, Cases.port);
    connections.setPublisherConfirmType(CachingConnectionFactory.ConfirmType.CORRELATED);
    connections.setPublisherReturns(true);
    try {
      RabbitAdmin admin = new RabbitAdmin(connections);
      RabbitTemplate template = new RabbitTemplate(connections);
      template.setMandatory(true);
      template.setReplyTimeout(20_000);
      body.run(connections, admin, template);
    } finally {
      connections.destroy();
    }
  }

  static <T extends AbstractMessageListenerContainer> T listen(T container, RabbitAdmin admin, String queue, MessageListener listener) {
    container.setAmqpAdmin(admin);
    container.setQueueNames(queue);
    container.setMessageListener(listener);
    container.setShutdownTimeout(2_000);
    container.afterPropertiesSet();
    container.start();
    return container;
  }

  /** A queue of this connection that stays when its consumers go. */
  static String queue(RabbitAdmin admin) {
    return admin.declareQueue(new Queue("spring-" + java.util.UUID.randomUUID(), false, true, false));
  }

  static String text(Message message) {
    return new String(message.getBody(), StandardCharsets.UTF_8);
  }

  static void declare() throws Exception {
    spring(
        (connections, admin, template) -> {
          TopicExchange exchange = new TopicExchange("spring-orders", true, false);
          Queue queue = QueueBuilder.durable("spring-billing").quorum().build();
          admin.declareExchange(exchange);
          admin.declareQueue(queue);
          admin.declareBinding(BindingBuilder.bind(queue).to(exchange).with("order.#"));
          template.convertAndSend("spring-orders", "order.placed", "order 7");
          eventually(() -> admin.getQueueInfo("spring-billing").getMessageCount() == 1, "counted");
          same(template.receiveAndConvert("spring-billing", 20_000), "order 7", "received");
          admin.purgeQueue("spring-billing", false);
          check(admin.deleteQueue("spring-billing"), "deleted");
          check(admin.deleteExchange("spring-orders"), "exchange deleted");
          same(admin.getQueueProperties("spring-billing"), null, "properties of what is not there");
        });
  }

  static void confirmed() throws Exception {
    spring(
        (connections, admin, template) -> {
          String queue = queue(admin);
          CorrelationData stored = new CorrelationData("1");
          template.convertAndSend("", queue, (Object) "order 7", stored);
          check(stored.getFuture().get(20, TimeUnit.SECONDS).ack(), "confirmed");
          CorrelationData lost = new CorrelationData("2");
          template.convertAndSend("", "spring-no-such", (Object) "order 8", lost);
          check(lost.getFuture().get(20, TimeUnit.SECONDS).ack(), "confirmed, too");
          same(lost.getReturned().getReplyCode(), 312, "and returned before");
        });
  }

  static void listener(boolean simple) throws Exception {
    spring(
        (connections, admin, template) -> {
          String queue = queue(admin);
          BlockingQueue<String> received = new LinkedBlockingQueue<>();
          AbstractMessageListenerContainer container =
              simple ? new SimpleMessageListenerContainer(connections) : new DirectMessageListenerContainer(connections);
          listen(container, admin, queue, message -> received.add(text(message)));
          try {
            template.invoke(
                one -> {
                  for (int i = 0; i < 500; i++) {
                    one.convertAndSend("", queue, "order " + i);
                  }
                  return null;
                });
            for (int i = 0; i < 500; i++) {
              same(next(received, "order " + i), "order " + i, "in order");
            }
          } finally {
            container.stop();
          }
          same(admin.getQueueInfo(queue).getMessageCount(), 0L, "acknowledged");
        });
  }

  /** An exception gives the message back; a refusal makes a dead letter of it. */
  static void failing() throws Exception {
    spring(
        (connections, admin, template) -> {
          String dead = queue(admin);
          admin.declareQueue(
              new Queue("spring-failing", false, true, true,
                  Map.of("x-dead-letter-exchange", "", "x-dead-letter-routing-key", dead)));
          AtomicInteger attempts = new AtomicInteger();
          BlockingQueue<Boolean> redelivered = new LinkedBlockingQueue<>();
          SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(connections);
          container.setAcknowledgeMode(AcknowledgeMode.AUTO);
          listen(
              container,
              admin,
              "spring-failing",
              message -> {
                redelivered.add(message.getMessageProperties().isRedelivered());
                if (attempts.incrementAndGet() < 3) {
                  throw new IllegalStateException("not now");
                }
                throw new AmqpRejectAndDontRequeueException("never");
              });
          try {
            template.convertAndSend("", "spring-failing", "order 7");
            Message letter = template.receive(dead, 30_000);
            check(letter != null, "a dead letter");
            MessageProperties properties = letter.getMessageProperties();
            same(properties.getXDeathHeader().get(0).get("reason"), "rejected", "reason");
            same(redelivered.toString(), "[false, true, true]", "redelivered");
          } finally {
            container.stop();
          }
        });
  }

  static void rpc() throws Exception {
    spring(
        (connections, admin, template) -> {
          String queue = queue(admin);
          Object service =
              new Object() {
                @SuppressWarnings("unused")
                public String handleMessage(String request) {
                  return request.toUpperCase(java.util.Locale.ROOT);
                }
              };
          SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(connections);
          listen(container, admin, queue, new MessageListenerAdapter(service));
          try {
            for (int i = 0; i < 20; i++) {
              same(template.convertSendAndReceive("", queue, "flight " + i), "FLIGHT " + i, "answer");
            }
          } finally {
            container.stop();
          }
        });
  }

  static void transacted() throws Exception {
    CachingConnectionFactory connections = new CachingConnectionFactory(Cases.host, Cases.port);
    try {
      RabbitAdmin admin = new RabbitAdmin(connections);
      String queue = queue(admin);
      RabbitTemplate template = new RabbitTemplate(connections);
      template.setChannelTransacted(true);
      template.convertAndSend("", queue, "order 7");
      same(template.receiveAndConvert(queue, 20_000), "order 7", "received");
      same(admin.getQueueInfo(queue).getMessageCount(), 0L, "committed");
    } finally {
      connections.destroy();
    }
  }

  public static void main(String[] arguments) throws Exception {
    add("declare", Spring::declare);
    add("confirmed", Spring::confirmed);
    add("simple-listener", () -> listener(true));
    add("direct-listener", () -> listener(false));
    add("failing-listener", Spring::failing);
    add("rpc", Spring::rpc);
    add("transacted", Spring::transacted);
    Cases.main(arguments);
  }
}
