package homekv.bench;

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
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.FileStore;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.LocalDate;
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
 * Measures what durability costs on the disk that a directory lies on, and prints it as one document: how many writes a
 * second, how fast a store comes back, and what a snapshot file takes from those who read and write meanwhile.
 *
 * <p>What is compared is measured in turns within one run, several rounds each, and the median is told: on a machine
 * that others use too, only such numbers mean anything.
 */
public final class Benchmark {
    private static final int KEY_BYTES = 16;
    private static final int VALUE_BYTES = 100;
    private static final int[] WRITERS = {1, 4, 16, 64, 256};

    private final PrintStream out;
    private final Path directory;
    private final boolean quick;
    private final int rounds;
    private final long roundMillis;
    private final int keys;

    private Benchmark(PrintStream out, Path directory, boolean quick) {
        this.out = out;
        this.directory = directory;
        this.quick = quick;
        this.rounds = quick ? 1 : 3;
        this.roundMillis = quick ? 200 : 1_000;
        this.keys = quick ? 50_000 : 1_000_000;
    }

    /** Takes the directory to measure in, which is emptied, and {@code --quick} to see whether it runs at all. */
    public static void main(String[] args) throws Exception {
        List<String> arguments = new ArrayList<>(List.of(args));
        boolean quick = arguments.remove("--quick");
        if (arguments.size() != 1) {
            System.err.println("bench: give the directory to measure in; what is in it is deleted");
            System.exit(2);
        }
        Path directory = Path.of(arguments.get(0)).resolve("homekv-bench");
        Files.createDirectories(directory);
        new Benchmark(System.out, directory, quick).run();
        delete(directory);
    }

    private void run() throws Exception {
        machine();
        forces();
        writes();
        recovery();
        snapshotFiles();
    }

    private void machine() throws IOException {
        FileStore disk = Files.getFileStore(directory);
        out.printf(
                "%s, %s %s, %d processors, %d GiB of heap, JDK %s; %s on %s%s%n",
                LocalDate.now(),
                System.getProperty("os.name"),
                System.getProperty("os.arch"),
                Runtime.getRuntime().availableProcessors(),
                Math.round(Runtime.getRuntime().maxMemory() / (double) (1 << 30)),
                Runtime.version().feature(),
                disk.type(),
                disk.name(),
                quick ? "; --quick, of no meaning" : "");
        out.printf("Keys of %d bytes, values of %d.%n", KEY_BYTES, VALUE_BYTES);
    }

    // ---- The disk alone ----

    private void forces() throws IOException {
        Path file = directory.resolve("forces");
        Latencies latencies = new Latencies(1 << 20);
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
        out.printf(
                "%nThe disk alone, appending 160 bytes and forcing them: %s; %,d a second.%n",
                latencies, (long) (latencies.count() * 1e3 / (rounds * roundMillis)));
    }

    // ---- Writes per second ----

    private record Rate(long perSecond, Latencies latencies) {}

    private void writes() throws Exception {
        out.printf(
                "%nWrites a second by number of writers, each waiting for its answer; below, latency p50 / p99:%n%n");
        out.printf("| durability |%s%n", columns(writers -> " " + writers + " |"));
        out.printf("| --- |%s%n", columns(writers -> " ---: |"));
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
        for (Durability durability : Durability.values()) {
            Map<Integer, Rate> median = new TreeMap<>();
            rates.get(durability)
                    .forEach((writers, all) -> median.put(
                            writers,
                            all.stream()
                                    .sorted(Comparator.comparingLong(Rate::perSecond))
                                    .toList()
                                    .get(all.size() / 2)));
            out.printf("| %s |%s%n", durability, columns(writers -> " %,d |".formatted(median.get(writers).perSecond)));
            out.printf(
                    "| |%s%n",
                    columns(writers -> " %s / %s |"
                            .formatted(
                                    Latencies.text(median.get(writers).latencies.percentile(50)),
                                    Latencies.text(median.get(writers).latencies.percentile(99)))));
        }
    }

    private interface Column {
        String of(int writers);
    }

    private static String columns(Column column) {
        StringBuilder columns = new StringBuilder();
        for (int writers : WRITERS) {
            columns.append(column.of(writers));
        }
        return columns.toString();
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
            delete(store());
        }
    }

    private Rate writeAtOnce(CommandLog log, int writers) throws InterruptedException {
        Latencies latencies = new Latencies(1 << 22);
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
        out.printf("%nRecovery of %,d keys, all of it in the page cache:%n%n", keys);
        out.printf("| from | MB | s | MB/s | keys/s |%n| --- | ---: | ---: | ---: | ---: |%n");
        fill(1);
        recover("the log, a record a key");
        delete(store());
        fill(1_000);
        recover("the log, a record for 1,000 keys");
        try (WriteAheadLog log = open(options())) {
            log.writeSnapshotFile();
        }
        recover("a snapshot file");
        delete(store());
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

    private void recover(String from) throws IOException {
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
        out.printf(
                "| %s | %.0f | %.2f | %.0f | %,.0f |%n",
                from, bytes / 1e6, median, bytes / 1e6 / median, keys / median);
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
        Latencies[] gets = {new Latencies(1 << 22), new Latencies(1 << 22)};
        Latencies[] sets = {new Latencies(1 << 22), new Latencies(1 << 22)};
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
        delete(store());
        out.printf(
                "%nA snapshot file of %,d keys takes %.2f s, %.0f MB/s. Latencies meanwhile and without, of %,d gets"
                        + " and %,d sets a second (WRITTEN), from when they were due:%n%n",
                keys,
                nanos / 1e9 / (2 * rounds),
                bytes * 1e3 / nanos,
                1_000_000_000 / Load.GET_PERIOD_NANOS,
                1_000_000_000 / Load.SET_PERIOD_NANOS);
        out.printf("| | p50 | p99 | p99.9 | max |%n| --- | ---: | ---: | ---: | ---: |%n");
        out.printf("| gets | %s |%n", gets[0].row());
        out.printf("| gets, snapshot file | %s |%n", gets[1].row());
        out.printf("| sets | %s |%n", sets[0].row());
        out.printf("| sets, snapshot file | %s |%n", sets[1].row());
    }

    // ---- What they share ----

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

    private static void delete(Path directory) throws IOException {
        try (Stream<Path> files = Files.walk(directory)) {
            for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
                Files.delete(file);
            }
        }
    }
}
