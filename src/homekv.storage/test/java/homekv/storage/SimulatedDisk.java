package homekv.storage;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.NoSuchFileException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.BiConsumer;

/**
 * A directory in memory that does to what was not forced all that a real one may do, as its seed says.
 *
 * <p>{@link #crash} is the power cut: it returns the disk that the next start finds, and the old one and all its handles
 * fail from then on. {@link #kill} is the death of the process alone: the page cache stays, with all that is not forced
 * yet, so that a later power cut may still take what the next process has already read.
 *
 * <p>What a power cut may do, each chosen by the seed:
 *
 * <ul>
 *   <li>Appends since the file was last forced are lost, or are there up to any byte.
 *   <li>Each sector of 512 bytes of them is there or not by itself, whatever the order of the appends; where one is
 *       missing and a later one is there, it has what it had when the file was last forced, or zeros, or bytes of a file
 *       that is gone. A sector that was appended to several times may have any of its states.
 *   <li>The size of the file is any of those it has had since it was last forced, or between them, whatever became of the
 *       content: a longer file has zeros at its end, a shorter one is cut.
 *   <li>A truncation that was not forced has not happened.
 *   <li>Creations, renames and deletions that no {@link #forceDirectory} followed have each happened or not by
 *       themselves: the new name is missing though the content was forced, the old name or the replaced file is there
 *       again, a deleted file is back; and this whatever the order in which they were done.
 *   <li>Forcing a file keeps its content and not its name; forcing the directory the names and not the content.
 * </ul>
 *
 * <p>Not played: sectors that tear within themselves where a part of them had been forced, forced bytes that are lost or
 * change ({@link #flip} does that on command), a rename of which one half has happened, a truncation that a failed force
 * has undone.
 *
 * <p>What it does on command, at the n-th operation from now ({@link #failAt}, {@link #failReadAt}), at the n-th of one
 * kind, or when so many bytes are in use ({@link #limitTo}):
 *
 * <ul>
 *   <li>An append fails with any part of it done, or none.
 *   <li>A force fails, and what was to be forced is on the disk or not, sector by sector; it is no longer waiting to be
 *       written, so that the next force succeeds and means nothing, while reads go on to find it, until the power cut. Or
 *       it is still waiting.
 *   <li>A creation, rename, deletion, truncation or read fails with nothing done.
 *   <li>The power cut itself, {@link #crashAt}: that operation and all later ones fail, done or not.
 * </ul>
 *
 * <p>Any number of threads may use it. Source: TigerBeetle's {@code testing/storage.zig}, Pebble's {@code vfs/mem_fs.go}
 * with its crash clones; T. Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014); A. Rebello et al., "Can
 * Applications Recover from fsync Failures?" (ATC 2020).
 */
final class SimulatedDisk implements Disk {
    static final int SECTOR_BYTES = 512;

    /** What can be done to it, but for looking at it. */
    enum Operation {
        CREATE,
        APPEND,
        TRUNCATE,
        FORCE,
        RENAME,
        DELETE,
        FORCE_DIRECTORY
    }

    /** A file, whatever its names: what the page cache has of it, and what the disk has. */
    private static final class Content {
        byte[] cached = {};
        int cachedBytes;
        byte[] forced = {};
        int forcedBytes;

        /** What was done to it since, oldest first. */
        final List<Change> changes = new ArrayList<>();

        void change(Change change) {
            changes.add(change);
            switch (change) {
                case Change.Append append -> {
                    cached = written(cached, append);
                    cachedBytes = Math.max(cachedBytes, append.offset + append.bytes.length);
                }
                case Change.Truncate truncate -> cachedBytes = truncate.size;
            }
        }

        void force() {
            for (Change change : changes) {
                switch (change) {
                    case Change.Append append -> {
                        // Zeros, where a force before has failed.
                        Arrays.fill(forced, Math.min(forcedBytes, forced.length), forced.length, (byte) 0);
                        forced = written(forced, append);
                        forcedBytes = Math.max(forcedBytes, append.offset + append.bytes.length);
                    }
                    case Change.Truncate truncate -> forcedBytes = Math.min(forcedBytes, truncate.size);
                }
            }
            changes.clear();
        }

        private static byte[] written(byte[] bytes, Change.Append append) {
            int end = append.offset + append.bytes.length;
            byte[] longer = end <= bytes.length ? bytes : Arrays.copyOf(bytes, Math.max(end, 2 * bytes.length));
            System.arraycopy(append.bytes, 0, longer, append.offset, append.bytes.length);
            return longer;
        }
    }

    private sealed interface Change {
        /** At the end, or over what is there. */
        record Append(int offset, byte[] bytes) implements Change {}

        record Truncate(int size) implements Change {}
    }

    /** Takes one name away, if that is not null, and gives one, if that is not null. */
    private record NameChange(String taken, String given, Content content) {}

    private final ReentrantLock lock = new ReentrantLock();
    private final SplittableRandom random;
    private final TreeMap<String, Content> names = new TreeMap<>();
    private final TreeMap<String, Content> forcedNames = new TreeMap<>();
    private final List<NameChange> nameChanges = new ArrayList<>();

    /** What files that are gone had, for sectors that are found again. */
    private final List<byte[]> gone = new ArrayList<>();

    private final Map<Operation, Long> countByOperation = new EnumMap<>(Operation.class);
    private final Map<Operation, Long> failAtByOperation = new EnumMap<>(Operation.class);
    private volatile long operations;
    private volatile long reads;
    private long crashAt = -1;
    private long failAt = -1;
    private long failReadAt = -1;
    private long limitBytes = Long.MAX_VALUE;
    private volatile boolean freeBytesFails;
    private boolean locked;

    /** Why nothing can be done any more, or null. */
    private volatile String over;

    /** Is told of each operation and its file before it is done, outside of all locks; may use the disk and what lies on it. */
    private volatile BiConsumer<Operation, String> before = (operation, name) -> {};

    /** Is told of each operation that has succeeded. */
    private volatile BiConsumer<Operation, String> after = (operation, name) -> {};

    SimulatedDisk(SplittableRandom random) {
        this.random = random;
    }

    /** A disk with these files, all forced. */
    static SimulatedDisk of(SplittableRandom random, Map<String, byte[]> files) {
        SimulatedDisk disk = new SimulatedDisk(random);
        files.forEach((name, bytes) -> {
            Content content = new Content();
            content.cached = bytes.clone();
            content.cachedBytes = bytes.length;
            content.forced = bytes.clone();
            content.forcedBytes = bytes.length;
            disk.names.put(name, content);
            disk.forcedNames.put(name, content);
        });
        return disk;
    }

    // ---- What tests do with it ----

    /** What there is, as who reads it now finds it. */
    TreeMap<String, byte[]> files() {
        lock.lock();
        try {
            TreeMap<String, byte[]> files = new TreeMap<>();
            names.forEach((name, content) -> files.put(name, Arrays.copyOf(content.cached, content.cachedBytes)));
            return files;
        } finally {
            lock.unlock();
        }
    }

    /** How many operations there have been, reads left out. */
    long operations() {
        return operations;
    }

    /** How many operations of one kind there have been. */
    long operations(Operation operation) {
        return countByOperation.getOrDefault(operation, 0L);
    }

    /** How many reads there have been. */
    long reads() {
        return reads;
    }

    /** The power is cut in the middle of the n-th operation from now, counted from 0; reads are not counted. */
    void crashAt(long operation) {
        crashAt = operations + operation;
    }

    /** The n-th operation from now, counted from 0, fails; reads are not counted. */
    void failAt(long operation) {
        failAt = operations + operation;
    }

    /** The n-th operation of one kind from now fails. */
    void failAt(Operation operation, long number) {
        failAtByOperation.put(operation, operations(operation) + number);
    }

    /** The n-th read from now fails. */
    void failReadAt(long read) {
        failReadAt = reads + read;
    }

    /** There is room for so many bytes in all, a file whose name is gone not counted. */
    void limitTo(long bytes) {
        limitBytes = bytes;
    }

    /** Whether it cannot say how much of it is free. */
    void failFreeBytes(boolean fails) {
        freeBytesFails = fails;
    }

    /** How many bytes all files take. */
    long usedBytes() {
        lock.lock();
        try {
            return names.values().stream()
                    .mapToLong(content -> content.cachedBytes)
                    .sum();
        } finally {
            lock.unlock();
        }
    }

    void before(BiConsumer<Operation, String> listener) {
        before = listener;
    }

    void after(BiConsumer<Operation, String> listener) {
        after = listener;
    }

    /** Whether the power has been cut, or the process killed. */
    boolean isOver() {
        return over != null;
    }

    /** Changes bits of what has long been forced. */
    void flip(String name, int offset, int mask) {
        Content content = names.get(name);
        content.cached[offset] ^= (byte) mask;
        content.forced[offset] ^= (byte) mask;
    }

    /** Fails from now on, as if the process was dead already; {@link #kill} and {@link #crash} say what comes next. */
    void halt() {
        over = over == null ? "the process was killed" : over;
    }

    /** The process dies, the machine does not: the disk as the next process finds it. Nobody has the lock. */
    SimulatedDisk kill() {
        lock.lock();
        try {
            over = over == null ? "the process was killed" : over;
            SimulatedDisk next = new SimulatedDisk(random.split());
            // The old disk can change nothing any more, so what the two share belongs to the new one.
            next.names.putAll(names);
            next.forcedNames.putAll(forcedNames);
            next.nameChanges.addAll(nameChanges);
            next.gone.addAll(gone);
            next.limitBytes = limitBytes;
            return next;
        } finally {
            lock.unlock();
        }
    }

    /** The power is cut, if it was not at {@link #crashAt}: the disk as the next start finds it. */
    SimulatedDisk crash() {
        lock.lock();
        try {
            over = over == null ? "the power was cut" : over;
            SimulatedDisk next = new SimulatedDisk(random.split());
            Fate fate = any(Fate.values());
            TreeMap<String, Content> survivors = new TreeMap<>(forcedNames);
            for (NameChange change : nameChanges) {
                if (survives(fate)) {
                    apply(change, survivors);
                }
            }
            List<byte[]> stale = new ArrayList<>(gone);
            names.values().forEach(content -> stale.add(Arrays.copyOf(content.cached, content.cachedBytes)));
            Map<Content, Content> copies = new IdentityHashMap<>();
            survivors.forEach((name, content) -> {
                Content copy = copies.computeIfAbsent(content, c -> {
                    Content survivor = new Content();
                    survivor.forced = surviving(c, fate, random.nextInt(4) == 0 ? stale : List.of());
                    survivor.forcedBytes = survivor.forced.length;
                    survivor.cached = survivor.forced.clone();
                    survivor.cachedBytes = survivor.forcedBytes;
                    return survivor;
                });
                next.names.put(name, copy);
                next.forcedNames.put(name, copy);
            });
            next.gone.addAll(stale.subList(Math.max(0, stale.size() - 4), stale.size()));
            next.limitBytes = limitBytes;
            return next;
        } finally {
            lock.unlock();
        }
    }

    // ---- What a power cut leaves ----

    /** What becomes of all that was not forced. Where it is mixed, each part is on its own. */
    private enum Fate {
        LOST,
        KEPT,
        MIXED,
        MIXED_TOO
    }

    private boolean survives(Fate fate) {
        return switch (fate) {
            case LOST -> false;
            case KEPT -> true;
            case MIXED, MIXED_TOO -> random.nextBoolean();
        };
    }

    private <T> T any(T[] values) {
        return values[random.nextInt(values.length)];
    }

    private static void apply(NameChange change, Map<String, Content> names) {
        if (change.taken != null) {
            names.remove(change.taken);
        }
        if (change.given != null) {
            names.put(change.given, change.content);
        }
    }

    private byte[] surviving(Content content, Fate fate, List<byte[]> stale) {
        byte[] forced = Arrays.copyOf(content.forced, content.forcedBytes);
        List<Change> changes = content.changes;
        if (changes.isEmpty() || fate == Fate.LOST) {
            return forced;
        }
        if (fate == Fate.KEPT) {
            return after(forced, changes);
        }
        return switch (random.nextInt(5)) {
            case 0 -> forced;
            case 1 -> after(forced, changes);
            case 2 -> upToSomeByte(forced, changes);
            default -> bySectors(forced, changes, stale);
        };
    }

    private static byte[] after(byte[] bytes, List<Change> changes) {
        for (Change change : changes) {
            bytes = switch (change) {
                case Change.Append append -> {
                    byte[] longer = Arrays.copyOf(bytes, Math.max(bytes.length, append.offset + append.bytes.length));
                    System.arraycopy(append.bytes, 0, longer, append.offset, append.bytes.length);
                    yield longer;
                }
                case Change.Truncate truncate -> Arrays.copyOf(bytes, truncate.size);
            };
        }
        return bytes;
    }

    private byte[] upToSomeByte(byte[] forced, List<Change> changes) {
        int whole = random.nextInt(changes.size());
        byte[] bytes = after(forced, changes.subList(0, whole));
        if (changes.get(whole) instanceof Change.Append append) {
            int length = random.nextInt(append.bytes.length + 1);
            bytes = after(bytes, List.of(new Change.Append(append.offset, Arrays.copyOf(append.bytes, length))));
        }
        return bytes;
    }

    private byte[] bySectors(byte[] forced, List<Change> changes, List<byte[]> stale) {
        int longest = forced.length;
        int size = forced.length;
        List<Integer> sizes = new ArrayList<>(List.of(size));
        for (Change change : changes) {
            size = switch (change) {
                case Change.Append append -> Math.max(size, append.offset + append.bytes.length);
                case Change.Truncate truncate -> truncate.size;
            };
            sizes.add(size);
            longest = Math.max(longest, size);
        }
        // Each sector was last written to the disk at a moment of its own, the last one or some other, or never.
        int sectors = (longest + SECTOR_BYTES - 1) / SECTOR_BYTES;
        int lossPercent = any(new Integer[] {3, 20, 50, 90});
        int[] last = new int[sectors];
        for (int sector = 0; sector < sectors; sector++) {
            last[sector] = random.nextInt(100) >= lossPercent
                    ? changes.size()
                    : random.nextBoolean() ? -1 : random.nextInt(changes.size());
        }
        byte[] bytes = Arrays.copyOf(forced, longest);
        if (!stale.isEmpty()) {
            byte[] other = stale.get(random.nextInt(stale.size()));
            if (other.length > forced.length) {
                System.arraycopy(
                        other, forced.length, bytes, forced.length, Math.min(other.length, longest) - forced.length);
            }
        }
        for (int i = 0; i < changes.size(); i++) {
            switch (changes.get(i)) {
                case Change.Append append -> {
                    int end = append.offset + append.bytes.length;
                    for (int from = append.offset; from < end; ) {
                        int sector = from / SECTOR_BYTES;
                        int to = Math.min(end, (sector + 1) * SECTOR_BYTES);
                        if (last[sector] >= i) {
                            System.arraycopy(append.bytes, from - append.offset, bytes, from, to - from);
                        }
                        from = to;
                    }
                }
                case Change.Truncate truncate -> {
                    for (int offset = truncate.size; offset < longest; offset++) {
                        if (last[offset / SECTOR_BYTES] >= i) {
                            bytes[offset] = 0;
                        }
                    }
                }
            }
        }
        size = switch (random.nextInt(4)) {
            case 0 -> sizes.get(random.nextInt(sizes.size()));
            case 1 -> {
                int shortest = sizes.stream().mapToInt(Integer::intValue).min().orElseThrow();
                yield random.nextInt(shortest, longest + 1);
            }
            default -> sizes.get(sizes.size() - 1);
        };
        return Arrays.copyOf(bytes, size);
    }

    // ---- Disk ----

    private interface Action<T> {
        T run(boolean fails) throws IOException;
    }

    /** Runs an operation, told whether it is to fail. */
    private <T> T operate(Operation operation, String name, Action<T> action) throws IOException {
        before.accept(operation, name);
        T result;
        lock.lock();
        try {
            requireGoing();
            long number = operations++;
            long numberOfKind = operations(operation);
            countByOperation.put(operation, numberOfKind + 1);
            if (number == crashAt) {
                if (random.nextBoolean()) {
                    action.run(false);
                }
                over = "the power was cut";
                throw new IOException(name + ": the power was cut");
            }
            boolean fails = number == failAt || numberOfKind == failAtByOperation.getOrDefault(operation, -1L);
            result = action.run(fails);
            if (fails) {
                throw new IOException(name + ": input/output error, as the test wanted");
            }
        } finally {
            lock.unlock();
        }
        after.accept(operation, name);
        return result;
    }

    private void requireGoing() throws IOException {
        if (over != null) {
            throw new IOException(over);
        }
    }

    private void change(NameChange change) {
        Content taken = change.taken == null ? null : names.get(change.taken);
        Content replaced = change.given == null ? null : names.get(change.given);
        for (Content content : new Content[] {replaced, change.content == null ? taken : null}) {
            if (content != null && gone.size() < 8) {
                gone.add(Arrays.copyOf(content.cached, content.cachedBytes));
            }
        }
        apply(change, names);
        nameChanges.add(change);
    }

    @Override
    public List<String> list() throws IOException {
        lock.lock();
        try {
            requireGoing();
            List<String> list = new ArrayList<>(new TreeSet<>(names.keySet()));
            // A directory has no order.
            for (int i = list.size() - 1; i > 0; i--) {
                list.set(i, list.set(random.nextInt(i + 1), list.get(i)));
            }
            return list;
        } finally {
            lock.unlock();
        }
    }

    @Override
    public DiskFile create(String name) throws IOException {
        return operate(Operation.CREATE, name, fails -> {
            if (names.containsKey(name)) {
                throw new FileAlreadyExistsException(name);
            }
            if (fails) {
                return null;
            }
            Content content = new Content();
            change(new NameChange(null, name, content));
            return new Handle(name, content);
        });
    }

    @Override
    public DiskFile open(String name) throws IOException {
        lock.lock();
        try {
            requireGoing();
            return new Handle(name, existing(name));
        } finally {
            lock.unlock();
        }
    }

    private Content existing(String name) throws IOException {
        Content content = names.get(name);
        if (content == null) {
            throw new NoSuchFileException(name);
        }
        return content;
    }

    @Override
    public void rename(String from, String to) throws IOException {
        operate(Operation.RENAME, from, fails -> {
            Content content = existing(from);
            if (!fails) {
                change(new NameChange(from, to, content));
            }
            return null;
        });
    }

    @Override
    public void delete(String name) throws IOException {
        operate(Operation.DELETE, name, fails -> {
            existing(name);
            if (!fails) {
                change(new NameChange(name, null, null));
            }
            return null;
        });
    }

    @Override
    public void forceDirectory() throws IOException {
        operate(Operation.FORCE_DIRECTORY, ".", fails -> {
            if (!fails) {
                nameChanges.forEach(change -> apply(change, forcedNames));
                nameChanges.clear();
            }
            return null;
        });
    }

    @Override
    public long freeBytes() throws IOException {
        lock.lock();
        try {
            requireGoing();
            if (freeBytesFails) {
                throw new IOException("input/output error, as the test wanted");
            }
            return Math.max(0, limitBytes - usedBytes());
        } finally {
            lock.unlock();
        }
    }

    @Override
    public String path(String name) {
        return "/simulated/" + name;
    }

    @Override
    public boolean lock(boolean shared) throws IOException {
        lock.lock();
        try {
            requireGoing();
            boolean free = !locked;
            locked = true;
            return free;
        } finally {
            lock.unlock();
        }
    }

    @Override
    public void close() {
        lock.lock();
        try {
            locked = false;
        } finally {
            lock.unlock();
        }
    }

    /** An open file. */
    private final class Handle implements DiskFile {
        private final String name;
        private final Content content;
        private boolean closed;

        Handle(String name, Content content) {
            this.name = name;
            this.content = content;
        }

        private void requireOpen() throws IOException {
            requireGoing();
            if (closed) {
                throw new IOException(name + " has been closed");
            }
        }

        @Override
        public long size() throws IOException {
            lock.lock();
            try {
                requireOpen();
                return content.cachedBytes;
            } finally {
                lock.unlock();
            }
        }

        /** Often returns less than there is room for, as a real one may. */
        @Override
        public int read(ByteBuffer into, long position) throws IOException {
            lock.lock();
            try {
                requireOpen();
                if (reads++ == failReadAt) {
                    throw new IOException(name + ": input/output error, as the test wanted");
                }
                if (position >= content.cachedBytes) {
                    return -1;
                }
                int length = (int) Math.min(into.remaining(), content.cachedBytes - position);
                if (length > 1 && random.nextInt(8) == 0) {
                    length = random.nextInt(1, length);
                }
                into.put(content.cached, (int) position, length);
                return length;
            } finally {
                lock.unlock();
            }
        }

        @Override
        public void append(ByteBuffer from) throws IOException {
            operate(Operation.APPEND, name, fails -> {
                requireOpen();
                long free = Math.max(0, limitBytes - usedBytes());
                int length = from.remaining();
                int written =
                        length > free ? random.nextInt((int) free + 1) : fails ? random.nextInt(length + 1) : length;
                byte[] bytes = new byte[written];
                from.get(bytes);
                if (written > 0) {
                    content.change(new Change.Append(content.cachedBytes, bytes));
                }
                if (length > free) {
                    throw new IOException("No space left on device");
                }
                return null;
            });
        }

        @Override
        public void overwrite(ByteBuffer from, long position) throws IOException {
            operate(Operation.APPEND, name, fails -> {
                requireOpen();
                int length = fails ? random.nextInt(from.remaining() + 1) : from.remaining();
                if (position + length > content.cachedBytes) {
                    throw new AssertionError("nothing is there to be overwritten");
                }
                byte[] bytes = new byte[length];
                from.get(bytes);
                if (length > 0) {
                    content.change(new Change.Append((int) position, bytes));
                }
                return null;
            });
        }

        @Override
        public void truncate(long size) throws IOException {
            operate(Operation.TRUNCATE, name, fails -> {
                requireOpen();
                if (!fails && size < content.cachedBytes) {
                    content.change(new Change.Truncate((int) size));
                }
                return null;
            });
        }

        @Override
        public void force() throws IOException {
            operate(Operation.FORCE, name, fails -> {
                requireOpen();
                if (!fails) {
                    content.force();
                } else if (random.nextInt(3) > 0) {
                    boolean truncated = content.changes.stream().anyMatch(Change.Truncate.class::isInstance);
                    content.forced = surviving(content, any(Fate.values()), List.of());
                    content.forcedBytes = truncated // That is the journal's, whatever becomes of the content.
                            ? Math.min(content.forced.length, content.cachedBytes)
                            : content.forced.length;
                    content.changes.clear();
                }
                return null;
            });
        }

        @Override
        public void close() {
            lock.lock();
            try {
                closed = true;
            } finally {
                lock.unlock();
            }
        }
    }
}
