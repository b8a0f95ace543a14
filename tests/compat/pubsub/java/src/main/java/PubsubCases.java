// Google's Java client: PubsubCases HOST:PORT [CASE…]
//
// With COMPAT_TLS set the connection is by TLS, as the client makes it by itself, with the credentials of
// GOOGLE_APPLICATION_CREDENTIALS or the access token COMPAT_TOKEN. Otherwise it is in plain text and without credentials,
// which is how the documentation of Google's emulator connects Java.
import com.google.api.core.ApiFuture;
import com.google.api.gax.core.CredentialsProvider;
import com.google.api.gax.core.FixedCredentialsProvider;
import com.google.api.gax.core.NoCredentialsProvider;
import com.google.api.gax.grpc.GrpcTransportChannel;
import com.google.api.gax.rpc.FixedTransportChannelProvider;
import com.google.api.gax.rpc.NotFoundException;
import com.google.api.gax.rpc.TransportChannelProvider;
import com.google.auth.oauth2.AccessToken;
import com.google.auth.oauth2.OAuth2Credentials;
import com.google.cloud.pubsub.v1.AckReplyConsumerWithResponse;
import com.google.cloud.pubsub.v1.AckResponse;
import com.google.cloud.pubsub.v1.MessageReceiver;
import com.google.cloud.pubsub.v1.MessageReceiverWithAckResponse;
import com.google.cloud.pubsub.v1.Publisher;
import com.google.cloud.pubsub.v1.Subscriber;
import com.google.cloud.pubsub.v1.SubscriptionAdminClient;
import com.google.cloud.pubsub.v1.SubscriptionAdminSettings;
import com.google.cloud.pubsub.v1.TopicAdminClient;
import com.google.cloud.pubsub.v1.TopicAdminSettings;
import com.google.protobuf.ByteString;
import com.google.pubsub.v1.PubsubMessage;
import com.google.pubsub.v1.Subscription;
import com.google.pubsub.v1.SubscriptionName;
import com.google.pubsub.v1.TopicName;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;

public class PubsubCases {
    interface Case {
        void run() throws Exception;
    }

    static final String PROJECT = System.getenv().getOrDefault("GOOGLE_CLOUD_PROJECT", "compat");
    static String address;
    static TransportChannelProvider channel;
    static CredentialsProvider credentials;
    static TopicAdminClient topics;
    static SubscriptionAdminClient subscriptions;

    static void connect() throws Exception {
        boolean tls = System.getenv("COMPAT_TLS") != null;
        String token = System.getenv("COMPAT_TOKEN");
        if (tls) {
            channel = null;
            credentials = token == null ? null
                    : FixedCredentialsProvider.create(OAuth2Credentials.create(new AccessToken(token, null)));
        } else {
            ManagedChannel plain = ManagedChannelBuilder.forTarget(address).usePlaintext().build();
            channel = FixedTransportChannelProvider.create(GrpcTransportChannel.create(plain));
            credentials = NoCredentialsProvider.create();
        }
        TopicAdminSettings.Builder ofTopics = TopicAdminSettings.newBuilder().setEndpoint(address);
        SubscriptionAdminSettings.Builder ofSubscriptions = SubscriptionAdminSettings.newBuilder().setEndpoint(address);
        if (channel != null) {
            ofTopics.setTransportChannelProvider(channel);
            ofSubscriptions.setTransportChannelProvider(channel);
        }
        if (credentials != null) {
            ofTopics.setCredentialsProvider(credentials);
            ofSubscriptions.setCredentialsProvider(credentials);
        }
        topics = TopicAdminClient.create(ofTopics.build());
        subscriptions = SubscriptionAdminClient.create(ofSubscriptions.build());
    }

    static String fresh(String prefix) {
        return prefix + "-" + UUID.randomUUID().toString().substring(0, 8);
    }

    static TopicName topic() {
        TopicName name = TopicName.of(PROJECT, fresh("orders"));
        topics.createTopic(name);
        return name;
    }

    static SubscriptionName subscription(TopicName topic, Subscription.Builder options) {
        SubscriptionName name = SubscriptionName.of(PROJECT, fresh("billing"));
        subscriptions.createSubscription(options.setName(name.toString()).setTopic(topic.toString()).build());
        return name;
    }

    static Publisher publisher(TopicName topic, boolean ordered) throws Exception {
        Publisher.Builder builder = Publisher.newBuilder(topic).setEndpoint(address).setEnableMessageOrdering(ordered);
        if (channel != null) builder.setChannelProvider(channel);
        if (credentials != null) builder.setCredentialsProvider(credentials);
        return builder.build();
    }

    static Subscriber start(Subscriber.Builder builder) {
        builder.setEndpoint(address);
        if (channel != null) builder.setChannelProvider(channel);
        if (credentials != null) builder.setCredentialsProvider(credentials);
        Subscriber subscriber = builder.build();
        subscriber.startAsync().awaitRunning();
        return subscriber;
    }

    static void stop(Subscriber subscriber) throws Exception {
        subscriber.stopAsync().awaitTerminated(30, TimeUnit.SECONDS);
    }

    static PubsubMessage message(String data, String key) {
        return PubsubMessage.newBuilder().setData(ByteString.copyFromUtf8(data)).putAttributes("shop", "grüße")
                .setOrderingKey(key).build();
    }

    static void same(Object actual, Object expected) {
        if (!Objects.equals(actual, expected)) throw new AssertionError("got " + actual + ", expected " + expected);
    }

    static void eventually(BooleanSupplier check, String what) throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(40);
        while (!check.getAsBoolean()) {
            if (System.nanoTime() > end) throw new AssertionError("not so after 40 s: " + what);
            Thread.sleep(50);
        }
    }

    static void publishAndReceive() throws Exception {
        TopicName topic = topic();
        SubscriptionName name = subscription(topic, Subscription.newBuilder());
        Publisher publisher = publisher(topic, false);
        List<ApiFuture<String>> futures = new ArrayList<>();
        for (int i = 0; i < 200; i++) futures.add(publisher.publish(message("" + i, "")));
        Set<String> ids = new HashSet<>();
        for (ApiFuture<String> future : futures) ids.add(future.get(30, TimeUnit.SECONDS));
        same(ids.size(), 200);
        Map<String, String> received = new ConcurrentHashMap<>();
        MessageReceiver receiver = (message, reply) -> {
            received.put(message.getMessageId(), message.getAttributesOrThrow("shop"));
            reply.ack();
        };
        Subscriber subscriber = start(Subscriber.newBuilder(name.toString(), receiver));
        eventually(() -> received.size() == 200, "200 messages");
        stop(subscriber);
        publisher.shutdown();
        same(received.keySet(), ids);
        same(new HashSet<>(received.values()), Set.of("grüße"));
    }

    static void nack() throws Exception {
        TopicName topic = topic();
        SubscriptionName name = subscription(topic, Subscription.newBuilder());
        Publisher publisher = publisher(topic, false);
        AtomicInteger times = new AtomicInteger();
        MessageReceiver receiver = (message, reply) -> {
            if (times.incrementAndGet() < 3) reply.nack();
            else reply.ack();
        };
        Subscriber subscriber = start(Subscriber.newBuilder(name.toString(), receiver));
        publisher.publish(message("1", "")).get(30, TimeUnit.SECONDS);
        eventually(() -> times.get() >= 3, "three deliveries");
        stop(subscriber);
        publisher.shutdown();
    }

    static void ordering() throws Exception {
        TopicName topic = topic();
        SubscriptionName name = subscription(topic, Subscription.newBuilder().setEnableMessageOrdering(true));
        Publisher publisher = publisher(topic, true);
        for (int i = 0; i < 200; i++) publisher.publish(message("" + i, "customer-" + i % 4));
        Map<String, List<Integer>> received = new ConcurrentHashMap<>();
        AtomicInteger count = new AtomicInteger();
        MessageReceiver receiver = (message, reply) -> {
            received.computeIfAbsent(message.getOrderingKey(), key -> new CopyOnWriteArrayList<>())
                    .add(Integer.valueOf(message.getData().toStringUtf8()));
            count.incrementAndGet();
            reply.ack();
        };
        Subscriber subscriber = start(Subscriber.newBuilder(name.toString(), receiver));
        eventually(() -> count.get() >= 200, "200 messages");
        stop(subscriber);
        publisher.shutdown();
        for (int key = 0; key < 4; key++) {
            List<Integer> expected = new ArrayList<>();
            for (int i = key; i < 200; i += 4) expected.add(i);
            same(received.get("customer-" + key), expected);
        }
    }

    static void exactlyOnce() throws Exception {
        TopicName topic = topic();
        SubscriptionName name = subscription(topic, Subscription.newBuilder().setEnableExactlyOnceDelivery(true));
        Publisher publisher = publisher(topic, false);
        List<String> data = new CopyOnWriteArrayList<>();
        List<AckResponse> acks = new CopyOnWriteArrayList<>();
        MessageReceiverWithAckResponse receiver = (PubsubMessage message, AckReplyConsumerWithResponse reply) -> {
            data.add(message.getData().toStringUtf8());
            try {
                acks.add(reply.ack().get(30, TimeUnit.SECONDS));
            } catch (Exception error) {
                acks.add(AckResponse.OTHER);
            }
        };
        Subscriber subscriber = start(Subscriber.newBuilder(name.toString(), receiver));
        for (int i = 0; i < 50; i++) publisher.publish(message("" + i, ""));
        eventually(() -> acks.size() >= 50, "50 acks");
        stop(subscriber);
        publisher.shutdown();
        same(new HashSet<>(acks), Set.of(AckResponse.SUCCESSFUL));
        same(data.size(), 50);
        same(new HashSet<>(data).size(), 50);
    }

    static void administer() {
        TopicName topic = topic();
        SubscriptionName name = subscription(topic, Subscription.newBuilder().setAckDeadlineSeconds(20));
        Subscription stored = subscriptions.getSubscription(name);
        same(stored.getAckDeadlineSeconds(), 20);
        same(stored.getTopic(), topic.toString());
        List<String> names = new ArrayList<>();
        topics.listTopicSubscriptions(topic).iterateAll().forEach(names::add);
        same(names, List.of(name.toString()));
        subscriptions.deleteSubscription(name);
        topics.deleteTopic(topic);
        try {
            topics.getTopic(topic);
        } catch (NotFoundException error) {
            return;
        }
        throw new AssertionError("the topic is there after its deletion");
    }

    public static void main(String[] args) throws Exception {
        java.util.logging.LogManager.getLogManager().reset();
        address = args[0];
        List<String> only = List.of(args).subList(1, args.length);
        Map<String, Case> cases = new LinkedHashMap<>();
        cases.put("publish-and-receive", PubsubCases::publishAndReceive);
        cases.put("nack-brings-a-message-again", PubsubCases::nack);
        cases.put("ordering-keys", PubsubCases::ordering);
        cases.put("exactly-once", PubsubCases::exactlyOnce);
        cases.put("administer", PubsubCases::administer);
        connect();
        int failed = 0;
        for (Map.Entry<String, Case> entry : cases.entrySet()) {
            if (!only.isEmpty() && !only.contains(entry.getKey())) continue;
            try {
                entry.getValue().run();
                System.out.println("PASS " + entry.getKey());
            } catch (Throwable error) {
                failed++;
                System.out.println("FAIL " + entry.getKey() + ": " + error.toString().replace('\n', ' '));
            }
        }
        System.out.flush();
        Runtime.getRuntime().halt(failed == 0 ? 0 : 1);
    }
}
