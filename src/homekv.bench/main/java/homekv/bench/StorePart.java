package homekv.bench;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The store in its process, beside other ordered maps: a million keys of 16 bytes with values of 100, in random order.
 *
 * <p>Not by JMH: it starts a JVM for each benchmark of each contender, which would have to be filled each time, and runs
 * them one after the other, so that a machine that others use too favours the one or the other. Here each contender has
 * one JVM, is filled once, and warmed up by what is measured; then each has its round, again and again, and medians are
 * told. JMH's other gains are had as well: each loop is compiled by itself, what is read is used, and threads start
 * together.
 */
final class StorePart implements Part {
    private final Map<String, Child> jvms = new LinkedHashMap<>();
    private int keys;
    private int rounds;
    private int warmRounds;
    private int roundMillis;

    @Override
    public void measure(Report report, Setting setting) throws Exception {
        keys = setting.quick() ? 20_000 : 1_000_000;
        rounds = setting.quick() ? 1 : 5;
        warmRounds = setting.quick() ? 0 : 3;
        roundMillis = setting.quick() ? 20 : 300;
        List<String> flags = new ArrayList<>(setting.serverFlags());
        flags.add(setting.quick() ? "-Xmx512m" : "-Xmx4g");
        report.part("store", "The store in its process");
        report.text(
                ("%,d keys of 16 bytes, values of 100, in random order; each contender in a JVM with the server's flags"
                                + " and 4 GiB of heap. Time an operation of one thread, the median of %d rounds of %d ms in turns,"
                                + " and how far half of them lie from it; what of it the thread had a processor. Bytes allocated an operation; 144 of a put's are the key"
                                + " and the value.")
                        .formatted(keys, rounds, roundMillis));
        try {
            for (String name : Contender.NAMES) {
                jvms.put(name, ContenderJvm.start(flags, name, keys, 100, 0));
            }
            besideWriter(report);
            operations(report);
        } finally {
            for (Child jvm : jvms.values()) {
                jvm.close();
            }
            jvms.clear();
        }
    }

    private void operations(Report report) throws Exception {
        Report.Table table = report.table("operations", List.of("operation", "threads", "what"), Contender.NAMES);
        for (Operation operation : List.of(Operation.GET, Operation.PUT, Operation.MIXED, Operation.SCAN)) {
            for (int threads = 1; threads <= 2; threads++) {
                row(table, operation.title, threads, round(operation, threads), Contender.NAMES);
            }
        }
        for (int threads = 1; threads <= 2; threads++) {
            row(
                    table,
                    Operation.SNAPSHOT.title,
                    threads,
                    round(Operation.SNAPSHOT, threads),
                    List.of("HomeKV", "MVStore"));
        }
        // Last: it makes them larger, by half in the end.
        for (int threads = 1; threads <= 2; threads++) {
            row(table, "put, of a new key", threads, "fresh " + threads + " " + keys / 40, Contender.NAMES);
        }
    }

    private String round(Operation... operations) {
        return "round " + roundMillis + " "
                + String.join(",", Arrays.stream(operations).map(Enum::name).toList());
    }

    private String round(Operation operation, int threads) {
        return round(Collections.nCopies(threads, operation).toArray(Operation[]::new));
    }

    private void row(Report.Table table, String title, int threads, String question, List<String> names)
            throws Exception {
        List<String> whats = threads == 1 ? List.of("time", "processor time", "bytes") : List.of("time");
        Map<String, double[][]> results = new LinkedHashMap<>();
        for (int round = -warmRounds; round < rounds; round++) {
            for (String name : names) {
                long[] answer = ContenderJvm.numbers(jvms.get(name).ask(question));
                for (int what = 0; round >= 0 && what < whats.size(); what++) {
                    results.computeIfAbsent(name, n -> new double[whats.size()][rounds])[what][round] =
                            perOperation(answer, 1 + what);
                }
            }
        }
        for (int what = 0; what < whats.size(); what++) {
            int which = what;
            table.row(
                    List.of(title, threads, whats.get(which)),
                    Contender.NAMES.stream()
                            .map(name -> results.get(name))
                            .map(result -> result == null ? null : value(result[which], whats.get(which)))
                            .toArray(Report.Value[]::new));
        }
    }

    private static Report.Value value(double[] rounds, String what) {
        return what.equals("bytes") ? Report.Value.of(median(rounds), "bytes") : Report.Value.median(rounds, "ns");
    }

    /** Of what each thread answers, so much an operation of one of them. */
    private static double perOperation(long[] answer, int which) {
        double done = 0;
        double all = 0;
        for (int i = 0; i < answer.length; i += 4) {
            done += answer[i];
            all += answer[i + which];
        }
        return all / done;
    }

    private void besideWriter(Report report) throws Exception {
        Map<String, double[][]> results = new LinkedHashMap<>(); // What the table's columns have.
        for (int round = -warmRounds; round < rounds; round++) {
            for (String name : Contender.NAMES) {
                long[] beside = ContenderJvm.numbers(jvms.get(name).ask(round(Operation.MULTI_GET, Operation.PUT)));
                long[] busy = ContenderJvm.numbers(jvms.get(name).ask(round(Operation.COMPUTE, Operation.PUT)));
                long[] alone = ContenderJvm.numbers(jvms.get(name).ask(round(Operation.PUT)));
                if (round >= 0) {
                    double[][] result = results.computeIfAbsent(name, n -> new double[6][rounds]);
                    result[0][round] = beside[0] * 1e9 / beside[1];
                    result[1][round] = beside[4] * 1e9 / beside[5];
                    result[2][round] = busy[4] * 1e9 / busy[5];
                    result[3][round] = alone[0] * 1e9 / alone[1];
                    result[4][round] = 100 * (1 - result[1][round] / result[2][round]);
                    result[5][round] = 100 * (1 - result[1][round] / result[3][round]);
                }
            }
        }
        report.text(
                "Ten keys as of one moment, over and over, while a writer puts without a pause. The skip list cannot do"
                        + " so; it gets one key after the other. Beside a thread that only computes, a writer has"
                        + " nothing to wait for, but a processor less for its collector.");
        Report.Table table = report.table(
                "multi-get beside a writer",
                List.of("of"),
                List.of(
                        "multi-gets/s",
                        "puts/s beside",
                        "puts/s beside computing",
                        "puts/s alone",
                        "slower than beside computing by %",
                        "than alone by %"));
        results.forEach((name, result) -> table.row(
                List.of(name),
                Report.Value.median(result[0], "multi-gets/s"),
                Report.Value.median(result[1], "puts/s"),
                Report.Value.median(result[2], "puts/s"),
                Report.Value.median(result[3], "puts/s"),
                Report.Value.of(median(result[4]), "%"),
                Report.Value.of(median(result[5]), "%")));
    }

    private static double median(double[] rounds) {
        return Report.Value.median(rounds, "").value();
    }
}
