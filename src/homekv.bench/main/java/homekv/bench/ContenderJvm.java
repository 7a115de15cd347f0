package homekv.bench;

import com.sun.management.ThreadMXBean;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.StringJoiner;
import java.util.concurrent.Callable;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import javax.management.ObjectName;

/**
 * A JVM with one {@link Contender}, filled when it starts; see {@link Child}. Takes its name, how many keys, how many bytes
 * a value and of history. Answers
 *
 * <ul>
 *   <li>{@code round MILLIS OPERATION,…}: one thread for each, all at once. For each: how often it was done, in how many
 *       nanoseconds, how many of these the thread had a processor, and how many bytes it allocated
 *   <li>{@code fresh THREADS KEYS}: the same for adding so many keys by each
 *   <li>{@code overwrite TIMES}: keys that it began with
 *   <li>{@code forget}: nothing of the past is kept any more
 *   <li>{@code live}: bytes of live heap after a full collection, and how many live objects there are
 *   <li>{@code empty}: the same, once another contender has been put into its place that is empty
 * </ul>
 */
final class ContenderJvm {
    private static final ThreadMXBean THREADS = (ThreadMXBean) ManagementFactory.getThreadMXBean();

    /** What was read, so that it has to be. */
    static volatile long blackhole;

    private final String name;

    /** How many keys it began with, and all operations but {@code fresh} are about. */
    private final int keys;

    private final int valueBytes;
    private final long historyBytes;
    private Contender contender;

    /** How many keys are in it. */
    private int filled;

    private final List<Operation.Order> orders = new ArrayList<>();
    private final ExecutorService threads = Executors.newCachedThreadPool();

    private ContenderJvm(String name, int keys, int valueBytes, long historyBytes) {
        this.name = name;
        this.keys = keys;
        this.valueBytes = valueBytes;
        this.historyBytes = historyBytes;
        filled = keys;
        contender = Contender.of(name, historyBytes);
        for (int i = 0; i < keys; i++) {
            Operation.put(contender, i, valueBytes);
        }
    }

    /** Starts one, which is full as soon as it answers. */
    static Child start(List<String> flags, String name, int keys, int valueBytes, long historyBytes) throws Exception {
        return new Child(flags, ContenderJvm.class, name, "" + keys, "" + valueBytes, "" + historyBytes);
    }

    public static void main(String[] args) throws Exception {
        ContenderJvm jvm = new ContenderJvm(
                args[0], Integer.parseInt(args[1]), Integer.parseInt(args[2]), Long.parseLong(args[3]));
        BufferedReader questions = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = questions.readLine()) != null; ) {
            String[] question = line.split(" ");
            String answer = "";
            switch (question[0]) {
                case "round" -> answer = jvm.round(Long.parseLong(question[1]), question[2].split(","));
                case "fresh" -> answer = jvm.fresh(Integer.parseInt(question[1]), Integer.parseInt(question[2]));
                case "overwrite" -> {
                    Operation.Order order = new Operation.Order(jvm.keys, jvm.valueBytes, 0);
                    Operation.PUT.times(Integer.parseInt(question[1]), jvm.contender, order);
                }
                case "forget" -> jvm.contender.forget();
                case "live" -> answer = live();
                case "empty" -> {
                    jvm.contender.close();
                    jvm.contender = Contender.of(jvm.name, jvm.historyBytes);
                    answer = live();
                }
                default -> throw new IllegalArgumentException(line);
            }
            System.out.println(answer);
        }
        System.exit(0);
    }

    private interface Step {
        /** Returns how often it was done. */
        long run() throws Exception;
    }

    private String round(long millis, String[] operations) throws Exception {
        while (orders.size() < operations.length) {
            orders.add(new Operation.Order(keys, valueBytes, orders.size()));
        }
        List<Step> steps = new ArrayList<>();
        for (int i = 0; i < operations.length; i++) {
            Operation operation = Operation.valueOf(operations[i]);
            Operation.Order order = orders.get(i);
            Contender now = contender;
            steps.add(() -> {
                long end = System.nanoTime() + millis * 1_000_000;
                long sum = 0;
                long done = 0;
                for (; System.nanoTime() < end; done += 100) {
                    sum += operation.times(100, now, order);
                }
                blackhole = sum;
                return done;
            });
        }
        return atOnce(steps);
    }

    private String fresh(int count, int each) throws Exception {
        List<Step> steps = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            int from = filled + i * each;
            steps.add(() -> {
                for (int number = from; number < from + each; number++) {
                    Operation.put(contender, number, valueBytes);
                }
                return each;
            });
        }
        filled += count * each;
        return atOnce(steps);
    }

    private String atOnce(List<Step> steps) throws Exception {
        CyclicBarrier start = new CyclicBarrier(steps.size());
        List<Future<String>> results = new ArrayList<>();
        for (Step step : steps) {
            Callable<String> task = () -> {
                start.await();
                long bytesBefore = THREADS.getCurrentThreadAllocatedBytes();
                long cpuBefore = THREADS.getCurrentThreadCpuTime();
                long begin = System.nanoTime();
                long done = step.run();
                long nanos = System.nanoTime() - begin;
                long cpuNanos = THREADS.getCurrentThreadCpuTime() - cpuBefore;
                long bytes = THREADS.getCurrentThreadAllocatedBytes() - bytesBefore;
                return done + " " + nanos + " " + cpuNanos + " " + bytes;
            };
            results.add(threads.submit(task));
        }
        StringJoiner answer = new StringJoiner(" ");
        for (Future<String> result : results) {
            answer.add(result.get());
        }
        return answer.toString();
    }

    private static String live() throws Exception {
        String histogram = "";
        for (int i = 0; i < 2; i++) { // What is freed by reference queues and cleaners goes with the next.
            histogram = (String) ManagementFactory.getPlatformMBeanServer()
                    .invoke(
                            new ObjectName("com.sun.management:type=DiagnosticCommand"),
                            "gcClassHistogram",
                            new Object[] {new String[0]},
                            new String[] {String[].class.getName()});
            Thread.sleep(100);
        }
        String[] total = histogram
                .lines()
                .filter(line -> line.startsWith("Total"))
                .findFirst()
                .orElseThrow()
                .strip()
                .split(" +");
        return total[2] + " " + total[1];
    }

    /** A round's answer, as numbers: four for each thread. */
    static long[] numbers(String answer) {
        return Arrays.stream(answer.split(" ")).mapToLong(Long::parseLong).toArray();
    }
}
