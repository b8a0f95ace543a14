package mainstem.compat;

import java.io.IOException;
import java.io.StringReader;
import java.io.UncheckedIOException;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.Callable;

/** Naming the cases, running them one by one, printing `PASS name` or `FAIL name: reason`; shared by both suites. */
final class Cases {
    interface Body {
        void run() throws Exception;
    }

    /** The settings of a client, with those of the Java properties in COMPAT_JAVA_LOGIN, to log in. */
    static Map<String, Object> withLogin(Map<String, Object> settings) {
        Map<String, Object> all = new HashMap<>(settings);
        Properties login = new Properties();
        try {
            login.load(new StringReader(Objects.requireNonNullElse(System.getenv("COMPAT_JAVA_LOGIN"), "")));
        } catch (IOException impossible) {
            throw new UncheckedIOException(impossible);
        }
        login.forEach((name, value) -> all.put((String) name, value));
        return all;
    }

    private final Map<String, Body> cases = new LinkedHashMap<>();

    void add(String name, Body body) {
        if (cases.put(name, body) != null) {
            throw new IllegalStateException("two cases named " + name);
        }
    }

    /** Runs all, or those named; ends the process with 1 when one failed. */
    void run(String[] only) {
        int failed = 0;
        for (String name : only.length > 0 ? Arrays.asList(only) : cases.keySet()) {
            try {
                cases.get(name).run();
                System.out.println("PASS " + name);
            } catch (Throwable error) {
                error.printStackTrace();
                failed++;
                String reason = (error + (error.getCause() == null ? "" : " <- " + error.getCause())).replaceAll("\\s+", " ");
                System.out.println("FAIL " + name + ": " + reason.substring(0, Math.min(reason.length(), 400)));
            }
            System.out.flush();
        }
        Runtime.getRuntime().halt(failed == 0 ? 0 : 1);
    }

    static String fresh(String prefix) {
        return prefix + "-" + UUID.randomUUID().toString().substring(0, 8);
    }

    static void same(Object got, Object expected, String what) {
        if (!Objects.equals(got, expected)) {
            throw new AssertionError(what + ": got " + got + ", expected " + expected);
        }
    }

    static void eventually(String what, Callable<Boolean> check) throws Exception {
        long deadline = System.currentTimeMillis() + 40_000;
        while (!check.call()) {
            if (System.currentTimeMillis() > deadline) {
                throw new AssertionError("not so after 40 s: " + what);
            }
            Thread.sleep(50);
        }
    }
}
