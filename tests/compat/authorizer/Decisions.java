// Asks Apache Kafka's StandardAuthorizer. Each line of the standard input is a command with fields by tabs:
//   new   SUPER_USERS ALLOW_EVERYONE          begin with an authorizer without entries
//   acl   TYPE NAME PATTERN PRINCIPAL HOST OPERATION PERMISSION
//   ask   PRINCIPAL HOST OPERATION TYPE NAME  prints ALLOWED or DENIED
//   any   PRINCIPAL HOST OPERATION TYPE       the same, for any resource of the type (KIP-679)
// Run from its source, with Kafka's jars on the class path: java -cp 'lib/*' Decisions.java

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.metrics.Metrics;
import org.apache.kafka.common.metrics.internals.PluginMetricsImpl;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.security.auth.KafkaPrincipal;
import org.apache.kafka.common.security.auth.SecurityProtocol;
import org.apache.kafka.metadata.authorizer.StandardAcl;
import org.apache.kafka.metadata.authorizer.StandardAuthorizer;
import org.apache.kafka.server.authorizer.Action;
import org.apache.kafka.server.authorizer.AuthorizableRequestContext;

public class Decisions {
    record Asker(KafkaPrincipal principal, InetAddress clientAddress) implements AuthorizableRequestContext {
        public String listenerName() {
            return "SASL_SSL";
        }

        public SecurityProtocol securityProtocol() {
            return SecurityProtocol.SASL_SSL;
        }

        public int requestType() {
            return 1;
        }

        public int requestVersion() {
            return 1;
        }

        public String clientId() {
            return "";
        }

        public int correlationId() {
            return 1;
        }
    }

    static StandardAuthorizer start(String superUsers, String allowEveryone) {
        StandardAuthorizer authorizer = new StandardAuthorizer();
        authorizer.configure(Map.of(
            StandardAuthorizer.SUPER_USERS_CONFIG, superUsers,
            StandardAuthorizer.ALLOW_EVERYONE_IF_NO_ACL_IS_FOUND_CONFIG, allowEveryone));
        authorizer.withPluginMetrics(new PluginMetricsImpl(new Metrics(), Map.of()));
        authorizer.completeInitialLoad();
        return authorizer;
    }

    static Asker asker(String principal, String host) throws Exception {
        String[] part = principal.split(":", 2);
        return new Asker(new KafkaPrincipal(part[0], part[1]), InetAddress.getByName(host));
    }

    public static void main(String[] arguments) throws Exception {
        StandardAuthorizer authorizer = null;
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] field = line.split("\t", -1);
            switch (field[0]) {
                case "new" -> authorizer = start(field[1], field[2]);
                case "acl" -> authorizer.addAcl(Uuid.randomUuid(), new StandardAcl(
                    ResourceType.valueOf(field[1]), field[2], PatternType.valueOf(field[3]), field[4], field[5],
                    AclOperation.valueOf(field[6]), AclPermissionType.valueOf(field[7])));
                case "ask" -> {
                    ResourcePattern resource =
                        new ResourcePattern(ResourceType.valueOf(field[4]), field[5], PatternType.LITERAL);
                    Action action = new Action(AclOperation.valueOf(field[3]), resource, 1, true, true);
                    System.out.println(authorizer.authorize(asker(field[1], field[2]), List.of(action)).get(0));
                }
                case "any" -> System.out.println(authorizer.authorizeByResourceType(
                    asker(field[1], field[2]), AclOperation.valueOf(field[3]), ResourceType.valueOf(field[4])));
                default -> throw new IllegalArgumentException(line);
            }
        }
    }
}
