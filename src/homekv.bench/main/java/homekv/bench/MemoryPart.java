package homekv.bench;

import homekv.rpc.HomeKvClient;
import homekv.storage.Bytes;
import homekv.storage.Write;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.IntUnaryOperator;

/** What a key costs: live heap after a full collection, beside other ordered maps, and the resident size of a server. */
final class MemoryPart implements Part {
    private static final int DATA_BYTES = 116;

    @Override
    public void measure(Report report, Setting setting) throws Exception {
        int keys = setting.quick() ? 20_000 : 1_000_000;
        report.part("memory", "Memory");
        liveHeap(report, setting, keys);
        history(report, setting, keys);
        residentSize(report, setting, keys);
    }

    private static List<String> flags(Setting setting, boolean compactHeaders) {
        List<String> flags = new ArrayList<>(setting.serverFlags());
        flags.removeIf(flag -> flag.endsWith("UseCompactObjectHeaders"));
        if (compactHeaders) {
            flags.add("-XX:+UseCompactObjectHeaders");
        }
        flags.add("-Xmx3g");
        return flags;
    }

    private static void liveHeap(Report report, Setting setting, int keys) throws Exception {
        report.text(
                ("Live heap after full collections, with %,d keys of 16 bytes and values of 100 that were written once:"
                                + " bytes a key, and of these over the %d of the data, and objects a key, the two arrays included.")
                        .formatted(keys, DATA_BYTES));
        Report.Table table = report.table(
                "live heap", List.of("of", "object headers"), List.of("bytes a key", "over the data", "objects a key"));
        boolean compactExist = Runtime.version().feature() >= 25;
        for (String name : Contender.NAMES) {
            for (boolean compact : compactExist ? new boolean[] {true, false} : new boolean[] {false}) {
                try (Child jvm = ContenderJvm.start(flags(setting, compact), name, 1_000, 100, 0)) {
                    jvm.ask("forget");
                    long[] before = ContenderJvm.numbers(jvm.ask("live"));
                    jvm.ask("fresh 1 " + keys);
                    String headers = compact ? "compact" : "of 12 bytes";
                    if (name.equals("HomeKV")) {
                        row(table, name + ", in the history window", headers, before, jvm, keys);
                        jvm.ask("forget");
                    }
                    row(table, name, headers, before, jvm, keys);
                }
            }
        }
        report.text(
                "Others' numbers, as quoted and not measured here: Redis 208 bytes a key, resident; etcd over 660.");
    }

    private static void row(Report.Table table, String name, String headers, long[] before, Child jvm, int keys)
            throws Exception {
        long[] after = ContenderJvm.numbers(jvm.ask("live"));
        double bytes = (double) (after[0] - before[0]) / keys;
        table.row(
                List.of(name, headers),
                Report.Value.of(bytes, "bytes"),
                Report.Value.of(bytes - DATA_BYTES, "bytes"),
                Report.Value.of((double) (after[1] - before[1]) / keys, "objects"));
    }

    private static void history(Report report, Setting setting, int keys) throws Exception {
        int overwrites = keys / 2;
        try (Child jvm = ContenderJvm.start(flags(setting, true), "HomeKV", keys, 100, 1L << 30)) {
            jvm.ask("forget");
            long[] before = ContenderJvm.numbers(jvm.ask("live"));
            jvm.ask("overwrite " + overwrites);
            long[] after = ContenderJvm.numbers(jvm.ask("live"));
            report.table("history", List.of("the history window"), List.of("bytes", "objects"))
                    .row(
                            List.of("a revision that overwrites one value of 100 bytes"),
                            Report.Value.of((double) (after[0] - before[0]) / overwrites, "bytes"),
                            Report.Value.of((double) (after[1] - before[1]) / overwrites, "objects"));
        }
    }

    private static void residentSize(Report report, Setting setting, int keys) throws Exception {
        report.text(
                ("Resident size of a server out of the image, filled over the wire with %,d such keys, 1,000 a set; and"
                                + " of another, whose keys are then overwritten in random order, each so many times on average. Live"
                                + " heap after a full collection, done once for each server, at its end; the history window is in"
                                + " it.")
                        .formatted(keys));
        Report.Table table = report.table(
                "resident size",
                List.of("server", "each key written"),
                List.of("resident MB", "live heap MB", "resident to live"));
        for (String[] arguments : new String[][] {{}, {"--memory", "512m"}}) {
            String name = arguments.length == 0 ? "as it is" : String.join(" ", arguments);
            try (Target server = Target.homeKv(setting, arguments);
                    HomeKvClient client = new HomeKvClient("127.0.0.1", server.port(), Duration.ofMinutes(1))) {
                resident(table, name, "never", server, false);
                set(client, keys, i -> i);
                resident(table, name, "once", server, true);
            }
            try (Target server = Target.homeKv(setting, arguments);
                    HomeKvClient client = new HomeKvClient("127.0.0.1", server.port(), Duration.ofMinutes(1))) {
                SplittableRandom random = new SplittableRandom(1);
                set(client, keys, i -> i);
                int done = 0;
                for (int times : new int[] {1, 5, 20}) {
                    set(client, (times - done) * keys, i -> random.nextInt(keys));
                    done = times;
                    resident(table, name, 1 + times + " times", server, times == 20);
                }
            }
        }
    }

    private static void set(HomeKvClient client, int count, IntUnaryOperator number) {
        List<Write> writes = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            byte[] value = new byte[100];
            value[0] = (byte) i;
            writes.add(new Write.Put(Bytes.unsafeWrap(Operation.key(number.applyAsInt(i))), Bytes.unsafeWrap(value)));
            if (writes.size() == 1_000 || i == count - 1) {
                client.set(writes);
                writes = new ArrayList<>();
            }
        }
    }

    private static void resident(Report.Table table, String name, String written, Target server, boolean last)
            throws Exception {
        double resident = server.residentBytes();
        double live = last ? server.liveBytes() : 0;
        table.row(
                List.of(name, written),
                Report.Value.of(resident / 1e6, "MB"),
                last ? Report.Value.of(live / 1e6, "MB") : null,
                last ? Report.Value.of(resident / live, "") : null);
    }
}
