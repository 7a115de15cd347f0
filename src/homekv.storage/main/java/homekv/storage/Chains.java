package homekv.storage;

import java.lang.invoke.VarHandle;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.function.Function;

/**
 * The chains of all keys in the order of the keys (S1), with the link that each has to the one before it, and their newest
 * versions by hash.
 *
 * <p>Any thread may read at any time, without a lock (S10); only the writer, in its turn, changes. The ordered map is the
 * truth; the table beside it has versions of the same chains (S18).
 *
 * <p>Cost: finding one key, or what is newest of a chain that has been overwritten, is a look-up in the table; inserting,
 * removing and beginning a walk are searches, O(log n) comparisons of keys; a step up or down is none.
 */
final class Chains {
    /** For so many keys at once it pays to fetch ahead: what a processor has under way at the same time, and its cache holds. */
    static final int MOST_FETCHED = 16;

    /** Comes before every key. */
    static final byte[] FIRST = {};

    /** By the key's bytes themselves: an object around them would be one more to fetch for each comparison. */
    private final ConcurrentSkipListMap<byte[], VersionChain> map =
            new ConcurrentSkipListMap<>(Arrays::compareUnsigned);

    private final ChainTable table = new ChainTable();

    /**
     * The newest version of a key, or its chain if that has none, or null if there is none. Of the versions that a reader's
     * revision sees, it leads to all (S18).
     */
    Version find(Bytes key) {
        return table.find(key.unsafeArray());
    }

    /** The newest version of a chain, or null if it has none. The writer's. */
    Version newest(VersionChain chain) {
        return at(chain, Long.MAX_VALUE);
    }

    /**
     * Puts a version in the place of what {@link #find} finds of its key, or the chain, for none. Needs no memory.
     *
     * @param by null for none, too
     */
    void replace(Version newest, Version by) {
        table.replace(newest, by == null ? newest.chain() : by);
    }

    /** A chain without versions, for a key that has none; {@code firstRevision} as in {@link VersionChain}. */
    VersionChain chain(Bytes key, long firstRevision) {
        return new VersionChain(key.unsafeArray(), table.hash(key.unsafeArray()), firstRevision);
    }

    /**
     * The newest version of a chain at or below {@code revision}, or null.
     *
     * @param revision for others than the writer: one that had been published when it was read
     */
    Version at(VersionChain chain, long revision) {
        return Version.at(table.newest(chain), revision);
    }

    /** Before {@link #at} for several chains; see {@link ChainTable#fetch}. */
    int fetch(VersionChain chain) {
        return table.fetch(chain);
    }

    /** The entry that a key has at a revision, or null where it is absent. */
    Entry entryAt(Bytes key, long revision) {
        Version version = Version.at(find(key), revision);
        return version == null ? null : version.entry(key);
    }

    /** The same of the key of a chain; see {@link #at}. */
    Entry entryAt(VersionChain chain, long revision) {
        return Version.entry(at(chain, revision));
    }

    /** The entries that several keys have at a revision, in the order of {@code keys}. */
    List<Entry> entriesAt(List<Bytes> keys, long revision) {
        Entry[] entries = new Entry[keys.size()];
        for (int i = 0; i < entries.length; i++) {
            fetchAhead(keys, Function.identity(), i);
            entries[i] = entryAt(keys.get(i), revision);
        }
        return Arrays.asList(entries);
    }

    /** Before each key of a list is looked up, in order: at times, {@link #fetch} for those that follow, if there are any. */
    <T> void fetchAhead(List<? extends T> list, Function<T, Bytes> key, int next) {
        if (next % MOST_FETCHED == 0 && list.size() > 1) {
            fetch(list, key, next);
        }
    }

    /**
     * Before the keys of some elements of a list are looked up, up to {@link #MOST_FETCHED} of them from one on: has what the
     * look-ups need fetched from memory, for all of them at the same time. Any thread; changes nothing.
     */
    <T> void fetch(List<? extends T> list, Function<T, Bytes> key, int from) {
        byte[][] keys = new byte[Math.min(list.size() - from, MOST_FETCHED)][];
        for (int i = 0; i < keys.length; i++) {
            keys[i] = key.apply(list.get(from + i)).unsafeArray();
        }
        table.fetch(keys);
    }

    /** The chains whose keys are at or above {@code from} and below {@code to}, upwards; null: to the end. */
    Iterator<VersionChain> up(byte[] from, byte[] to) {
        return (to == null ? map.tailMap(from, true) : map.subMap(from, true, to, false))
                .values()
                .iterator();
    }

    /** The chain with the highest key below {@code to}, or of all where that is null; null if there is none. */
    VersionChain lastBelow(byte[] to) {
        Map.Entry<byte[], VersionChain> last = to == null ? map.lastEntry() : map.lowerEntry(to);
        return last == null ? null : last.getValue();
    }

    /**
     * Puts the chain of a key that has none into the map, between its neighbours, and into the table. If memory runs out it
     * may be in all of these all the same, or in none (S11).
     */
    void insert(VersionChain chain) {
        Map.Entry<byte[], VersionChain> higher = map.higherEntry(chain.key);
        chain.before = higher != null ? higher.getValue().before : lastBelow(null);
        table.reserve(chain);
        boolean isIn = false;
        try {
            map.put(chain.key, chain);
            isIn = true;
        } finally {
            // The map may run out of memory when the key is in it already.
            if (isIn || map.get(chain.key) == chain) {
                if (higher != null) {
                    VarHandle.releaseFence(); // Readers follow the link without any other order.
                    higher.getValue().before = chain;
                }
                table.add(chain);
            }
        }
    }

    /** Puts the chain of this newest version behind the last one, null if there is none. Before anybody reads. */
    void append(Version newest, VersionChain last) {
        VersionChain chain = newest.chain();
        chain.before = last;
        table.reserve(chain);
        map.put(chain.key, chain);
        table.add(newest);
    }

    /** Takes out a chain that nobody can read any more. If memory runs out it may be there still, in all or in none (S11). */
    void remove(VersionChain chain) {
        Map.Entry<byte[], VersionChain> higher = map.higherEntry(chain.key);
        boolean isOut = false;
        try {
            isOut = map.remove(chain.key, chain);
        } finally {
            // The map may run out of memory when the key has left it already.
            if (isOut || map.get(chain.key) != chain) {
                if (higher != null) {
                    VarHandle.releaseFence(); // Readers follow the link without any other order.
                    higher.getValue().before = chain.before;
                }
                if (!table.remove(chain)) {
                    throw new AssertionError("S18: the ordered map has had a chain that the table has not");
                }
            }
        }
    }

    /** Whether the map and the table have the same chains and links are right (S1, S18). In a turn; costs a walk. */
    void check() {
        VersionChain before = null;
        int size = 0;
        for (VersionChain chain : map.values()) {
            boolean ordered = before == null || Arrays.compareUnsigned(before.key, chain.key) < 0;
            if (!ordered || map.get(chain.key) != chain || chain.before != before) {
                throw new AssertionError("S1 is broken at " + chain.key());
            }
            Version found = table.find(chain.key);
            if (found == null || found.chain() != chain || table.newest(chain) != found) {
                throw new AssertionError("S18 is broken at " + chain.key());
            }
            before = chain;
            size++;
        }
        if (table.size() != size) {
            throw new AssertionError("S18 is broken: of " + table.size() + " chains, " + (table.size() - size)
                    + " have left the ordered map");
        }
    }
}
