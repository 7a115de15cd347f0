package homekv.bench;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * How what the store costs grows with what is in it: with the number of keys, and with the length of values. All sizes
 * have their rounds in turns, in a JVM each. The history window is kept small, so that it is the same for all.
 */
final class ScalePart implements Part {
    private static final long HISTORY_BYTES = 16 << 20;
    private static final List<Operation> OPERATIONS = List.of(Operation.GET, Operation.PUT, Operation.SCAN);

    /** So many keys with values of so many bytes, in a heap of so many MiB. */
    private record Size(int keys, int valueBytes, int heapMib) {}

    private static final List<Size> BY_KEYS = List.of(
            new Size(1_000, 100, 512),
            new Size(10_000, 100, 512),
            new Size(100_000, 100, 512),
            new Size(1_000_000, 100, 2_048),
            new Size(5_000_000, 100, 6_144));

    private static final List<Size> BY_VALUES = List.of(
            new Size(100_000, 10, 2_048),
            new Size(100_000, 100, 2_048),
            new Size(100_000, 1_000, 2_048),
            new Size(50_000, 10_000, 2_048),
            new Size(5_000, 100_000, 2_048),
            new Size(500, 1_000_000, 2_048));

    @Override
    public void measure(Report report, Setting setting) throws Exception {
        report.part("scale", "How cost grows");
        report.text(
                "In the process of the store, one thread. In brackets, how often the smallest one's. Values are not copied"
                        + " by a get or a scan; a set's is allocated and cleared for it, as it would be when it comes from the wire."
                        + " Memory is live heap after a full collection, over what an empty store takes.");
        table(report, setting, "by keys", BY_KEYS);
        table(report, setting, "by values", BY_VALUES);
    }

    private static void table(Report report, Setting setting, String name, List<Size> sizes) throws Exception {
        int rounds = setting.quick() ? 1 : 5;
        int warmRounds = setting.quick() ? 0 : 3;
        int roundMillis = setting.quick() ? 20 : 300;
        List<Size> these = !setting.quick()
                ? sizes
                : sizes.subList(0, 2).stream()
                        .map(size -> new Size(Math.min(10_000, size.keys), size.valueBytes, 512))
                        .toList();
        Map<Size, Child> jvms = new LinkedHashMap<>();
        try {
            for (Size size : these) {
                List<String> flags = new ArrayList<>(setting.serverFlags());
                flags.add("-Xmx" + size.heapMib + "m");
                jvms.put(size, ContenderJvm.start(flags, "HomeKV", size.keys, size.valueBytes, HISTORY_BYTES));
            }
            Map<Size, List<double[]>> nanos = new LinkedHashMap<>();
            these.forEach(size -> nanos.put(
                    size,
                    OPERATIONS.stream().map(operation -> new double[rounds]).toList()));
            for (Operation operation : OPERATIONS) {
                for (int round = -warmRounds; round < rounds; round++) {
                    for (Size size : these) {
                        long[] answer =
                                ContenderJvm.numbers(jvms.get(size).ask("round " + roundMillis + " " + operation));
                        if (round >= 0) {
                            nanos.get(size).get(OPERATIONS.indexOf(operation))[round] = (double) answer[1] / answer[0];
                        }
                    }
                }
            }
            Report.Table table = report.table(
                    name,
                    List.of("keys", "bytes a value"),
                    List.of("get", "set", "scan of 100", "bytes a key, over its data"));
            for (Size size : these) {
                Report.Value[] values = new Report.Value[4];
                for (int i = 0; i < 3; i++) {
                    Report.Value value = Report.Value.median(nanos.get(size).get(i), "ns");
                    double smallest = Report.Value.median(
                                    nanos.get(these.get(0)).get(i), "ns")
                            .value();
                    values[i] = value.as("%s (%.1f)".formatted(value.text(), value.value() / smallest));
                }
                Child jvm = jvms.get(size);
                jvm.ask("forget");
                long[] full = ContenderJvm.numbers(jvm.ask("live"));
                long[] empty = ContenderJvm.numbers(jvm.ask("empty"));
                values[3] = Report.Value.of((double) (full[0] - empty[0]) / size.keys - 16 - size.valueBytes, "bytes");
                table.row(List.of("%,d".formatted(size.keys), "%,d".formatted(size.valueBytes)), values);
            }
        } finally {
            jvms.values().forEach(Child::close);
        }
    }
}
