package homekv.storage;

import java.lang.invoke.VarHandle;
import java.util.Arrays;
import java.util.Iterator;
import java.util.Map;
import java.util.concurrent.ConcurrentSkipListMap;

/**
 * The chains of all keys, in the order of the keys (S1), and the link that each has to the one before it.
 *
 * <p>Any thread may read at any time, without a lock (S10); only the writer, in its turn, changes. Cost: finding, inserting
 * and removing are searches, O(log n) comparisons of keys; a step up or down is none.
 */
final class Chains {
    /** By the key's bytes themselves: an object around them would be one more to fetch for each comparison. */
    private final ConcurrentSkipListMap<byte[], VersionChain> map =
            new ConcurrentSkipListMap<>(Arrays::compareUnsigned);

    /** The chain of a key, or null. */
    VersionChain find(Bytes key) {
        return map.get(key.unsafeArray());
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
     * Puts a chain into the map and between its neighbours, whose key is in none. If memory runs out it may be there all
     * the same.
     */
    void insert(VersionChain chain) {
        Map.Entry<byte[], VersionChain> higher = map.higherEntry(chain.key);
        chain.before = higher != null ? higher.getValue().before : lastBelow(null);
        boolean isIn = false;
        try {
            map.put(chain.key, chain);
            isIn = true;
        } finally {
            // The map may run out of memory when the key is in it already.
            if (higher != null && (isIn || map.get(chain.key) == chain)) {
                VarHandle.releaseFence(); // Readers follow the link without any other order.
                higher.getValue().before = chain;
            }
        }
    }

    /** Puts a chain behind the last one, null if there is none. Before anybody reads. */
    void append(VersionChain chain, VersionChain last) {
        chain.before = last;
        map.put(chain.key, chain);
    }

    /** Takes a chain out. If memory runs out it may be in the map still. */
    void remove(VersionChain chain) {
        Map.Entry<byte[], VersionChain> higher = map.higherEntry(chain.key);
        try {
            map.remove(chain.key, chain);
        } finally {
            // The map may run out of memory when the key has left it already.
            if (higher != null && map.get(chain.key) != chain) {
                VarHandle.releaseFence(); // Readers follow the link without any other order.
                higher.getValue().before = chain.before;
            }
        }
    }
}
