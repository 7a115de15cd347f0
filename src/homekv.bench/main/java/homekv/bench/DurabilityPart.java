package homekv.bench;

import homekv.rpc.Latencies;
import homekv.storage.Bytes;
import homekv.storage.Command;
import homekv.storage.CommandLog;
import homekv.storage.Durability;
import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.LogOptions;
import homekv.storage.MemoryCommandLog;
import homekv.storage.MvccStore;
import homekv.storage.SnapshotFileInfo;
import homekv.storage.Write;
import homekv.storage.WriteAheadLog;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Consumer;
import java.util.stream.Stream;

/**
 * What durability costs on the disk that a directory lies on: how many writes a second, how fast a store comes back, and
 * what a snapshot file takes from those who read and write meanwhile.
 */
final class DurabilityPart implements Part {
    private static final int KEY_BYTES = 16;
    private static final int VALUE_BYTES = 100;
    private static final int[] WRITERS = {1, 4, 16, 64, 256};

    private Report report;
    private Path directory;
    private int rounds;
    private long roundMillis;
    private int keys;

    @Override
    public void measure(Report into, Setting setting) throws Exception {
        report = into;
        directory = setting.directory();
        rounds = setting.quick() ? 1 : 3;
        roundMillis = setting.quick() ? 100 : 1_000;
        keys = setting.quick() ? 50_000 : 1_000_000;
        report.part("durability", "What durability costs");
        forces();
        writes();
        recovery();
        snapshotFiles();
    }

    // ---- The disk alone ----

    private void forces() throws IOException {
        Path file = directory.resolve("forces");
        Latencies latencies = new Latencies();
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
            ByteBuffer record = ByteBuffer.allocate(160);
            long end = System.nanoTime() + rounds * roundMillis * 1_000_000;
            for (long now = System.nanoTime(); now < end; ) {
                channel.write(record.clear());
                channel.force(false);
                long done = System.nanoTime();
                latencies.add(done - now);
                now = done;
            }
        }
        Files.delete(file);
        report.table("disk", List.of("the disk alone"), List.of("a second", "p50", "p99"))
                .row(
                        List.of("160 bytes appended and forced"),
                        Report.Value.of(latencies.count() * 1e3 / (rounds * roundMillis), "forces/s"),
                        percentile(latencies, 50),
                        percentile(latencies, 99));
    }

    // ---- Writes per second ----

    private record Rate(long perSecond, Latencies latencies) {}

    private void writes() throws Exception {
        report.text(
                "Writes by so many writers, each waiting for its answer: how many a second, and how long one takes.");
        Map<Durability, Map<Integer, List<Rate>>> rates = new EnumMap<>(Durability.class);
        for (int round = 0; round < rounds; round++) {
            for (Durability durability : Durability.values()) {
                for (int writers : WRITERS) {
                    rates.computeIfAbsent(durability, d -> new TreeMap<>())
                            .computeIfAbsent(writers, w -> new ArrayList<>())
                            .add(writeAtOnce(durability, writers));
                }
            }
        }
        Report.Table table = report.table(
                "writes",
                List.of("durability", "what"),
                Arrays.stream(WRITERS)
                        .mapToObj(writers -> writers == 1 ? "1 writer" : writers + " writers")
                        .toList());
        for (Durability durability : Durability.values()) {
            List<Rate> medians = Arrays.stream(WRITERS)
                    .mapToObj(writers -> rates.get(durability).get(writers).stream()
                            .sorted(Comparator.comparingLong(Rate::perSecond))
                            .toList()
                            .get(rounds / 2))
                    .toList();
            table.row(
                    List.of(durability, "writes/s"),
                    medians.stream()
                            .map(median -> Report.Value.of(median.perSecond, "writes/s"))
                            .toArray(Report.Value[]::new));
            for (int percent : new int[] {50, 99}) {
                table.row(
                        List.of(durability, "p" + percent),
                        medians.stream()
                                .map(median -> percentile(median.latencies, percent))
                                .toArray(Report.Value[]::new));
            }
        }
    }

    private Rate writeAtOnce(Durability durability, int writers) throws Exception {
        if (durability == Durability.MEMORY) {
            try (MvccStore store = new MvccStore(limits())) {
                return writeAtOnce(new MemoryCommandLog(store), writers);
            }
        }
        try (WriteAheadLog log = open(options().withDurability(durability))) {
            return writeAtOnce(log, writers);
        } finally {
            Benchmark.delete(store());
        }
    }

    private Rate writeAtOnce(CommandLog log, int writers) throws InterruptedException {
        Latencies latencies = new Latencies();
        AtomicLong done = new AtomicLong();
        AtomicBoolean measuring = new AtomicBoolean();
        AtomicBoolean over = new AtomicBoolean();
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < writers; i++) {
            SplittableRandom random = new SplittableRandom(i);
            threads.add(Thread.startVirtualThread(() -> {
                long before = System.nanoTime();
                while (!over.get()) {
                    log.submit(Command.put(key(random.nextInt(100_000)), value(random.nextInt())));
                    long after = System.nanoTime();
                    if (measuring.get()) {
                        done.incrementAndGet();
                        latencies.add(after - before);
                    }
                    before = after;
                }
            }));
        }
        Thread.sleep(roundMillis / 2);
        measuring.set(true);
        long begin = System.nanoTime();
        Thread.sleep(roundMillis);
        measuring.set(false);
        long nanos = System.nanoTime() - begin;
        over.set(true);
        for (Thread thread : threads) {
            thread.join();
        }
        return new Rate((long) (done.get() * 1e9 / nanos), latencies);
    }

    // ---- Recovery ----

    private void recovery() throws Exception {
        report.text("Recovery of %,d keys, all of it in the page cache.".formatted(keys));
        Report.Table table = report.table("recovery", List.of("from"), List.of("MB", "s", "MB/s", "keys/s"));
        fill(1);
        recover(table, "the log, a record a key");
        Benchmark.delete(store());
        fill(1_000);
        recover(table, "the log, a record for 1,000 keys");
        try (WriteAheadLog log = open(options())) {
            log.writeSnapshotFile();
        }
        recover(table, "a snapshot file");
        Benchmark.delete(store());
    }

    private void fill(int keysAtOnce) throws IOException {
        try (WriteAheadLog log = open(options().withDurability(Durability.WRITTEN))) {
            for (int key = 0; key < keys; key += keysAtOnce) {
                List<Write> writes = new ArrayList<>();
                for (int i = key; i < key + keysAtOnce; i++) {
                    writes.add(new Write.Put(key(i), value(i)));
                }
                log.submit(new Command.Set(writes));
            }
        }
    }

    private void recover(Report.Table table, String from) throws IOException {
        long bytes;
        try (Stream<Path> files = Files.list(store())) {
            bytes = files.mapToLong(file -> file.toFile().length()).sum();
        }
        double[] seconds = new double[rounds];
        for (int round = 0; round < rounds; round++) {
            long begin = System.nanoTime();
            try (WriteAheadLog log = open(options())) {
                seconds[round] = (System.nanoTime() - begin) / 1e9;
                if (log.store().counters().keys() != keys) {
                    throw new AssertionError(log.store().counters() + " came back");
                }
            }
        }
        Arrays.sort(seconds);
        double median = seconds[rounds / 2];
        table.row(
                List.of(from),
                Report.Value.of(bytes / 1e6, "MB"),
                Report.Value.of(median, "s"),
                Report.Value.of(bytes / 1e6 / median, "MB/s"),
                Report.Value.of(keys / median, "keys/s"));
    }

    // ---- Snapshot files ----

    /** Reads and writes that come at fixed times, however long the ones before them take. */
    private final class Load {
        private static final long GET_PERIOD_NANOS = 100_000;
        private static final long SET_PERIOD_NANOS = 400_000;

        private final AtomicBoolean over = new AtomicBoolean();
        private final AtomicReference<Latencies> gets = new AtomicReference<>();
        private final AtomicReference<Latencies> sets = new AtomicReference<>();
        private final List<Thread> threads = new ArrayList<>();

        Load(WriteAheadLog log) {
            SplittableRandom random = new SplittableRandom(1);
            start(GET_PERIOD_NANOS, gets, random.split(), r -> log.store().get(key(r.nextInt(keys))));
            start(
                    SET_PERIOD_NANOS,
                    sets,
                    random.split(),
                    r -> log.submit(Command.put(key(r.nextInt(keys)), value(r.nextInt()))));
        }

        private void start(
                long periodNanos,
                AtomicReference<Latencies> latencies,
                SplittableRandom random,
                Consumer<SplittableRandom> call) {
            Thread thread = new Thread(() -> {
                long due = System.nanoTime();
                while (!over.get()) {
                    for (long wait; (wait = due - System.nanoTime()) > 0; ) {
                        LockSupport.parkNanos(wait); // No spinning: a processor may be all that there is beside it.
                    }
                    call.accept(random);
                    Latencies now = latencies.get();
                    if (now != null) {
                        now.add(System.nanoTime() - due);
                    }
                    due += periodNanos;
                }
            });
            threads.add(thread);
            thread.start();
        }

        void into(Latencies gets, Latencies sets) {
            this.gets.set(gets);
            this.sets.set(sets);
        }

        void end() throws InterruptedException {
            over.set(true);
            for (Thread thread : threads) {
                thread.join();
            }
        }
    }

    private void snapshotFiles() throws Exception {
        Latencies[] gets = {new Latencies(), new Latencies()};
        Latencies[] sets = {new Latencies(), new Latencies()};
        long bytes = 0;
        long nanos = 0;
        fill(1_000);
        try (WriteAheadLog log = open(options().withDurability(Durability.WRITTEN))) {
            Load load = new Load(log);
            log.writeSnapshotFile(); // So that all is warm.
            for (int round = 0; round < 2 * rounds; round++) {
                load.into(gets[1], sets[1]);
                long begin = System.nanoTime();
                SnapshotFileInfo info = log.writeSnapshotFile();
                long taken = System.nanoTime() - begin;
                load.into(gets[0], sets[0]);
                Thread.sleep(taken / 1_000_000);
                bytes += info.bytes();
                nanos += taken;
            }
            load.end();
        }
        Benchmark.delete(store());
        report.table("snapshot file", List.of("a snapshot file"), List.of("s", "MB/s"))
                .row(
                        List.of("of %,d keys".formatted(keys)),
                        Report.Value.of(nanos / 1e9 / (2 * rounds), "s"),
                        Report.Value.of(bytes * 1e3 / nanos, "MB/s"));
        report.text(
                "Latencies meanwhile and without, of %,d gets and %,d sets a second (WRITTEN), from when they were due."
                        .formatted(1_000_000_000 / Load.GET_PERIOD_NANOS, 1_000_000_000 / Load.SET_PERIOD_NANOS));
        Report.Table table =
                report.table("beside a snapshot file", List.of("of"), List.of("p50", "p99", "p99.9", "highest"));
        table.row(List.of("gets"), percentiles(gets[0]));
        table.row(List.of("gets, snapshot file"), percentiles(gets[1]));
        table.row(List.of("sets"), percentiles(sets[0]));
        table.row(List.of("sets, snapshot file"), percentiles(sets[1]));
    }

    // ---- What they share ----

    private static Report.Value percentile(Latencies latencies, double percent) {
        return Report.Value.of(latencies.percentileNanos(percent), "ns");
    }

    /** p50, p99, p99.9 and the highest. */
    private static Report.Value[] percentiles(Latencies latencies) {
        return new Report.Value[] {
            percentile(latencies, 50),
            percentile(latencies, 99),
            percentile(latencies, 99.9),
            Report.Value.of(latencies.maxNanos(), "ns")
        };
    }

    private Path store() {
        return directory.resolve("store");
    }

    private WriteAheadLog open(LogOptions options) throws IOException {
        return WriteAheadLog.open(store(), limits(), options, notice -> {});
    }

    /** No snapshot file but those that are asked for. */
    private static LogOptions options() {
        return LogOptions.defaults().withSnapshotLogBytes(1L << 50).withSnapshotIntervalMillis(0);
    }

    private static Limits limits() {
        Limits limits = Limits.defaults();
        return limits.with(Limit.HISTORY_BYTES, limits.memoryBytes() / 8);
    }

    private static Bytes key(int number) {
        byte[] key = new byte[KEY_BYTES];
        ByteBuffer.wrap(key)
                .putLong(Long.reverseBytes(number * 0x9E3779B97F4A7C15L))
                .putLong(number);
        return Bytes.unsafeWrap(key);
    }

    private static Bytes value(int number) {
        byte[] value = new byte[VALUE_BYTES];
        ByteBuffer.wrap(value).putInt(number);
        return Bytes.unsafeWrap(value);
    }
}
