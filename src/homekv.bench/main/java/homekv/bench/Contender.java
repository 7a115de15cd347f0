package homekv.bench;

import homekv.storage.Bytes;
import homekv.storage.Command;
import homekv.storage.Entry;
import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.MemoryCommandLog;
import homekv.storage.MvccStore;
import homekv.storage.Range;
import homekv.storage.Result;
import homekv.storage.Snapshot;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import org.h2.mvstore.Cursor;
import org.h2.mvstore.MVMap;
import org.h2.mvstore.MVStore;
import org.h2.mvstore.RootReference;
import org.h2.mvstore.WriteBuffer;
import org.h2.mvstore.type.BasicDataType;

/**
 * An ordered map that is compared with the others, by any number of threads. Each gets and keeps byte arrays that nobody
 * else has, as a server gets them from the wire, and makes of them what it needs. What is read is a number made of the
 * values' first bytes, so that each value is touched.
 */
interface Contender {
    /** All that there are, by name. */
    List<String> NAMES = List.of("HomeKV", "skip list", "TreeMap and lock", "MVStore");

    long get(byte[] key);

    void put(byte[] key, byte[] value);

    /** As of one moment, if it can do so at all. */
    long multiGet(byte[][] keys);

    /** As of one moment, if it can do so at all. */
    long scan(byte[] from, int count);

    /** Opens and closes a view of one moment. */
    long snapshot();

    /** Gives up what is kept of the past, if anything is. May take a moment. */
    default void forget() {}

    default void close() {}

    /** A new one. History: how many bytes it may take, 0 for as many as by default; for HomeKV only. */
    static Contender of(String name, long historyBytes) {
        return switch (name) {
            case "HomeKV" -> new HomeKv(historyBytes);
            case "skip list" -> new SkipList();
            case "TreeMap and lock" -> new LockedTreeMap();
            case "MVStore" -> new H2();
            default -> throw new IllegalArgumentException(name);
        };
    }

    /** This store, with its default limits and its history window. */
    final class HomeKv implements Contender {
        private final MvccStore store;
        private final MemoryCommandLog log;

        private HomeKv(long historyBytes) {
            Limits limits = Limits.defaults();
            store = new MvccStore(historyBytes == 0 ? limits : limits.with(Limit.HISTORY_BYTES, historyBytes));
            log = new MemoryCommandLog(store);
        }

        @Override
        public long get(byte[] key) {
            return first(store.get(Bytes.unsafeWrap(key)));
        }

        private static long first(Entry entry) {
            return entry.value().unsafeArray()[0];
        }

        @Override
        public void put(byte[] key, byte[] value) {
            Result result = log.submit(Command.put(Bytes.unsafeWrap(key), Bytes.unsafeWrap(value)));
            if (!(result instanceof Result.Applied)) {
                throw new AssertionError(result);
            }
        }

        @Override
        public long multiGet(byte[][] keys) {
            List<Bytes> wanted = new ArrayList<>(keys.length);
            for (byte[] key : keys) {
                wanted.add(Bytes.unsafeWrap(key));
            }
            long sum = 0;
            for (Entry entry : store.get(wanted).entries()) {
                sum += first(entry);
            }
            return sum;
        }

        @Override
        public long scan(byte[] from, int count) {
            long sum = 0;
            try (Snapshot snapshot = store.snapshot()) {
                Iterator<Entry> entries = snapshot.scan(Range.from(Bytes.unsafeWrap(from)), false);
                for (int i = 0; i < count && entries.hasNext(); i++) {
                    sum += first(entries.next());
                }
            }
            return sum;
        }

        @Override
        public long snapshot() {
            try (Snapshot snapshot = store.snapshot()) {
                return snapshot.revision();
            }
        }

        @Override
        public void forget() {
            log.submit(new Command.Compact(store.revision()));
            long heldBytes;
            do { // Until the background has nothing more to give up.
                heldBytes = store.counters().heldBytes();
                LockSupport.parkNanos(500_000_000);
            } while (store.counters().heldBytes() < heldBytes);
        }

        @Override
        public void close() {
            store.close();
        }
    }

    /** The JDK's concurrent skip list: no views, no versions. What it reads of several keys is not of one moment. */
    final class SkipList implements Contender {
        private final ConcurrentSkipListMap<Bytes, byte[]> map = new ConcurrentSkipListMap<>();

        @Override
        public long get(byte[] key) {
            return map.get(Bytes.unsafeWrap(key))[0];
        }

        @Override
        public void put(byte[] key, byte[] value) {
            map.put(Bytes.unsafeWrap(key), value);
        }

        @Override
        public long multiGet(byte[][] keys) {
            long sum = 0;
            for (byte[] key : keys) {
                sum += get(key);
            }
            return sum;
        }

        @Override
        public long scan(byte[] from, int count) {
            long sum = 0;
            Iterator<byte[]> values =
                    map.tailMap(Bytes.unsafeWrap(from)).values().iterator();
            for (int i = 0; i < count && values.hasNext(); i++) {
                sum += values.next()[0];
            }
            return sum;
        }

        @Override
        public long snapshot() {
            throw new UnsupportedOperationException();
        }
    }

    /** A red-black tree under a lock that readers share. */
    final class LockedTreeMap implements Contender {
        private final TreeMap<Bytes, byte[]> map = new TreeMap<>();
        private final ReentrantReadWriteLock lock = new ReentrantReadWriteLock();

        @Override
        public long get(byte[] key) {
            lock.readLock().lock();
            try {
                return map.get(Bytes.unsafeWrap(key))[0];
            } finally {
                lock.readLock().unlock();
            }
        }

        @Override
        public void put(byte[] key, byte[] value) {
            lock.writeLock().lock();
            try {
                map.put(Bytes.unsafeWrap(key), value);
            } finally {
                lock.writeLock().unlock();
            }
        }

        @Override
        public long multiGet(byte[][] keys) {
            long sum = 0;
            lock.readLock().lock();
            try {
                for (byte[] key : keys) {
                    sum += map.get(Bytes.unsafeWrap(key))[0];
                }
            } finally {
                lock.readLock().unlock();
            }
            return sum;
        }

        @Override
        public long scan(byte[] from, int count) {
            long sum = 0;
            lock.readLock().lock();
            try {
                Iterator<byte[]> values =
                        map.tailMap(Bytes.unsafeWrap(from)).values().iterator();
                for (int i = 0; i < count && values.hasNext(); i++) {
                    sum += values.next()[0];
                }
            } finally {
                lock.readLock().unlock();
            }
            return sum;
        }

        @Override
        public long snapshot() {
            throw new UnsupportedOperationException();
        }
    }

    /**
     * H2's copy-on-write B-tree, in memory, with byte arrays as they are and a commit for each put. A root is a view of
     * one moment; in memory, nothing need be pinned for it but the reference.
     */
    final class H2 implements Contender {
        private final MVStore store = new MVStore.Builder().autoCommitDisabled().open();
        private final MVMap<byte[], byte[]> map = store.openMap(
                "map",
                new MVMap.Builder<byte[], byte[]>().keyType(new ByteArrays()).valueType(new ByteArrays()));

        @Override
        public long get(byte[] key) {
            return map.get(key)[0];
        }

        @Override
        public void put(byte[] key, byte[] value) {
            map.put(key, value);
            store.commit();
        }

        @Override
        public long multiGet(byte[][] keys) {
            RootReference<byte[], byte[]> root = map.flushAndGetRoot();
            long sum = 0;
            for (byte[] key : keys) {
                sum += map.get(root.root, key)[0];
            }
            return sum;
        }

        @Override
        public long scan(byte[] from, int count) {
            Cursor<byte[], byte[]> cursor = map.cursor(map.flushAndGetRoot(), from, null, false);
            long sum = 0;
            for (int i = 0; i < count && cursor.hasNext(); i++) {
                cursor.next();
                sum += cursor.getValue()[0];
            }
            return sum;
        }

        @Override
        public long snapshot() {
            MVStore.TxCounter usage = store.registerVersionUsage();
            long version = map.flushAndGetRoot().version;
            store.deregisterVersionUsage(usage);
            return version;
        }

        @Override
        public void close() {
            store.closeImmediately();
        }

        private static final class ByteArrays extends BasicDataType<byte[]> {
            @Override
            public int compare(byte[] a, byte[] b) {
                return Arrays.compareUnsigned(a, b);
            }

            @Override
            public int getMemory(byte[] bytes) {
                return 16 + bytes.length;
            }

            @Override
            public byte[][] createStorage(int size) {
                return new byte[size][];
            }

            @Override
            public void write(WriteBuffer buffer, byte[] bytes) {
                buffer.putVarInt(bytes.length).put(bytes);
            }

            @Override
            public byte[] read(ByteBuffer buffer) {
                throw new UnsupportedOperationException("in memory only");
            }
        }
    }
}
