package mainstem.compat.rabbitmq;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

/** What the suites share: the address, the cases by name, the line that is printed for each. */
final class Cases {
  interface Case {
    void run() throws Exception;
  }

  static final int CASE_SECONDS_MAX = 60;
  static String host;
  static int port;
  private static final Map<String, Case> ALL = new LinkedHashMap<>();

  private Cases() {}

  static void add(String name, Case test) {
    ALL.put(name, test);
  }

  static void same(Object actual, Object expected, String what) {
    if (!Objects.deepEquals(actual, expected)) {
      throw new AssertionError(what + ": got " + actual + ", expected " + expected);
    }
  }

  static void check(boolean condition, String what) {
    if (!condition) {
      throw new AssertionError("not so: " + what);
    }
  }

  static void eventually(Callable<Boolean> condition, String what) throws Exception {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
    while (!condition.call()) {
      check(System.nanoTime() < deadline, what);
      Thread.sleep(20);
    }
  }

  static <T> T next(BlockingQueue<T> queue, String what) throws InterruptedException {
    T item = queue.poll(30, TimeUnit.SECONDS);
    check(item != null, what + " came");
    return item;
  }

  /** Runs the cases that are named, or all; ends the program with 1 when one failed. */
  static void main(String[] arguments) throws Exception {
    int colon = arguments[0].lastIndexOf(':');
    host = arguments[0].substring(0, colon);
    port = Integer.parseInt(arguments[0].substring(colon + 1));
    List<String> names = Arrays.asList(arguments).subList(1, arguments.length);
    ExecutorService threads = Executors.newCachedThreadPool();
    boolean failed = false;
    for (Map.Entry<String, Case> entry : ALL.entrySet()) {
      if (!names.isEmpty() && !names.contains(entry.getKey())) {
        continue;
      }
      try {
        Callable<Void> body =
            () -> {
              entry.getValue().run();
              return null;
            };
        threads.submit(body).get(CASE_SECONDS_MAX, TimeUnit.SECONDS);
        System.out.println("PASS " + entry.getKey());
      } catch (Exception error) {
        failed = true;
        Throwable cause = error.getCause() == null ? error : error.getCause();
        String text = String.valueOf(cause).replace('\n', ' ');
        System.out.println("FAIL " + entry.getKey() + ": " + text);
        cause.printStackTrace(System.out);
      }
    }
    System.out.flush();
    Runtime.getRuntime().halt(failed ? 1 : 0);
  }
}
