package homekv.storage;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.SplittableRandom;

/**
 * The chains of all keys by a hash of the key: finds one key's with a few fetches from memory, where the ordered map is
 * searched with twenty and more.
 *
 * <p>Any thread may look up at any time; it takes no lock and never waits (S10). Only the writer, in its turn, changes.
 * Adding what there has been made room for and removing need no memory. Growing is bounded work for each key that is
 * added, however many there are: a segment of a few hundred places is split, never the whole table.
 *
 * <p>Cost: 6 to 11 bytes of heap a key, 9 on average. Which keys meet in a segment depends on secrets of this table's
 * own, so it takes no more than chance to make look-ups long; keys whose hashes are equal are told apart all the same.
 *
 * <p>Source: R. Fagin, J. Nievergelt, N. Pippenger, H. R. Strong, "Extendible Hashing" (1979); a byte of the hash for
 * each place, eight of which are compared at once, as in Abseil's Swiss tables; the hash is built like wyhash.
 */
/*
 * The low bits of a key's hash choose an entry of the directory, which refers to a segment; a segment whose depth is less
 * than the directory's stands in several. Other bits choose a group of eight places in the segment, from which on the key
 * is looked for, group by group, until there is one with a place that is empty. Each place has a tag: EMPTY, DELETED, or
 * seven bits of the hash.
 *
 * Why a reader misses no chain that its revision sees (S18). Such a chain was added before the revision was published
 * and is removed after nobody reads it any more, so it is in the table for all of the look-up. As long as it is:
 *
 *   - it keeps its place in its segment: nothing is ever moved within one;
 *   - no group before it comes to have an empty place. It was put behind these because they were full; and where one is
 *     removed from a group that has no empty place, it leaves DELETED. Where the group has one, nothing lies behind it on
 *     its account, and so it leaves EMPTY;
 *   - whoever has found an old segment, or directory, goes on in one that is never changed any more, and has the chain.
 *
 * What has been added or removed meanwhile the reader may find or not: neither is seen by its revision. A place that has
 * another chain by the time it is looked at has another key.
 */
class ChainTable {
    private static final VarHandle TAGS = MethodHandles.arrayElementVarHandle(long[].class);

    private static final VarHandle LONGS = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);

    private static final VarHandle INTS = MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.LITTLE_ENDIAN);

    private static final int EMPTY = 0;
    private static final int DELETED = 1;

    /** In the tag of a place that has a chain, and in no other. */
    private static final int TAKEN = 0x80;

    private static final long LOW_BITS = 0x0101010101010101L;
    private static final long HIGH_BITS = 0x8080808080808080L;

    /** Places in a group: as many as there are bytes in a long. */
    private static final int GROUP = 8;

    /** A segment with so many places is split when it is full; before, it is doubled. */
    static final int SEGMENT_PLACES = 512;

    /** The directory is not doubled when it has more entries than one for so many keys: then hashes are equal. */
    private static final int LEAST_KEYS_PER_ENTRY = 16;

    private final long secret;
    private final long otherSecret;

    /** Its length is a power of two. Entries are replaced in place. */
    private volatile Segment[] directory = {new Segment(GROUP, 0)};

    private int size;

    /** An empty table. */
    ChainTable() {
        // From a generator that nothing is told of. A cryptographic one would cost a start a twentieth of a second.
        SplittableRandom secrets = new SplittableRandom();
        secret = secrets.nextLong() ^ System.nanoTime();
        otherSecret = secrets.nextLong();
    }

    /** What has the same low bits of the hash, as many as {@code depth} says. The counts are the writer's own. */
    private static final class Segment {
        /** The tags of a group in each. */
        final long[] tags;

        final VersionChain[] places;
        final int depth;

        int taken;

        /** How many places are not empty. Never all, so that every look-up comes to an end. */
        int used;

        Segment(int places, int depth) {
            this.tags = new long[places / GROUP];
            this.places = new VersionChain[places];
            this.depth = depth;
        }

        boolean isFull() {
            return used == places.length / 8 * 7;
        }

        VersionChain find(long hash, byte[] key) {
            int last = tags.length - 1;
            long wanted = tag(hash) * LOW_BITS;
            for (int group = firstGroup(hash); ; group++) {
                long found = (long) TAGS.getAcquire(tags, group & last);
                for (long hits = zeroBytes(found ^ wanted); hits != 0; hits &= hits - 1) {
                    VersionChain chain = places[place(group & last, hits)];
                    if (chain != null && Arrays.equals(chain.key, key)) {
                        return chain;
                    }
                }
                if (zeroBytes(found) != 0) {
                    return null;
                }
            }
        }

        void add(long hash, VersionChain chain) {
            int last = tags.length - 1;
            for (int group = firstGroup(hash); ; group++) {
                long free = ~tags[group & last] & HIGH_BITS;
                if (free != 0) {
                    used += isEmpty(group & last, free) ? 1 : 0;
                    taken++;
                    places[place(group & last, free)] = chain;
                    setTag(group & last, free, tag(hash)); // After the place: who finds the tag finds the chain.
                    return;
                }
            }
        }

        /** False if it is not here. */
        boolean remove(long hash, VersionChain chain) {
            int last = tags.length - 1;
            long wanted = tag(hash) * LOW_BITS;
            for (int group = firstGroup(hash); ; group++) {
                long found = tags[group & last];
                for (long hits = zeroBytes(found ^ wanted); hits != 0; hits &= hits - 1) {
                    if (places[place(group & last, hits)] == chain) {
                        boolean wasNeverFull = zeroBytes(found) != 0;
                        used -= wasNeverFull ? 1 : 0;
                        taken--;
                        setTag(group & last, hits, wasNeverFull ? EMPTY : DELETED);
                        places[place(group & last, hits)] = null;
                        return true;
                    }
                }
                if (zeroBytes(found) != 0) {
                    return false;
                }
            }
        }

        private int firstGroup(long hash) {
            return (int) (hash >>> 32) & tags.length - 1;
        }

        private static long tag(long hash) {
            return TAKEN | hash >>> 57;
        }

        /** The place in a group that the lowest of these bits stands for. */
        private static int place(int group, long bits) {
            return group * GROUP + (Long.numberOfTrailingZeros(bits) >>> 3);
        }

        private boolean isEmpty(int group, long bits) {
            return (byte) (tags[group] >>> (Long.numberOfTrailingZeros(bits) & -8)) == EMPTY;
        }

        private void setTag(int group, long bits, long tag) {
            int shift = Long.numberOfTrailingZeros(bits) & -8;
            TAGS.setRelease(tags, group, tags[group] & ~(0xffL << shift) | tag << shift);
        }
    }

    /** Has the high bit of each byte that is zero, perhaps of some above one that is, and no other. */
    private static long zeroBytes(long bytes) {
        return bytes - LOW_BITS & ~bytes & HIGH_BITS;
    }

    /** The chain of a key, or null. */
    VersionChain find(byte[] key) {
        long hash = hash(key);
        return segment(hash).find(hash, key);
    }

    private Segment segment(long hash) {
        Segment[] now = directory;
        return now[(int) hash & now.length - 1];
    }

    /** How many chains there are. */
    int size() {
        return size;
    }

    /** Makes room for the chain of one key. May run out of memory, and then nothing has changed. */
    void reserve(byte[] key) {
        long hash = hash(key);
        for (Segment segment; (segment = segment(hash)).isFull(); ) {
            makeRoom(hash, segment);
        }
    }

    private void makeRoom(long hash, Segment full) {
        int places = full.places.length;
        if (full.taken <= places / 16 * 7) {
            replace(hash, full, places); // So many are marked as deleted.
        } else if (places < SEGMENT_PLACES) {
            replace(hash, full, 2 * places);
        } else if (1 << full.depth < directory.length) {
            split(hash, full);
        } else if (directory.length <= size / LEAST_KEYS_PER_ENTRY) {
            Segment[] doubled = Arrays.copyOf(directory, 2 * directory.length);
            System.arraycopy(directory, 0, doubled, directory.length, directory.length);
            directory = doubled;
        } else {
            replace(hash, full, 2 * places);
        }
    }

    private void replace(long hash, Segment old, int places) {
        Segment replacement = new Segment(places, old.depth);
        copy(old, replacement, replacement);
        put(hash, replacement);
    }

    private void split(long hash, Segment full) {
        Segment even = new Segment(full.places.length, full.depth + 1);
        Segment odd = new Segment(full.places.length, full.depth + 1);
        copy(full, even, odd);
        long bit = 1L << full.depth;
        put(hash & ~bit, even);
        put(hash | bit, odd);
    }

    /** Adds what is in one segment to two others, by the first bit of the hashes that may differ. */
    private void copy(Segment from, Segment even, Segment odd) {
        for (VersionChain chain : from.places) {
            if (chain != null) {
                long hash = hash(chain.key);
                ((hash >>> from.depth & 1) == 0 ? even : odd).add(hash, chain);
            }
        }
    }

    /** Puts a segment, whole, into all entries of the directory that are its. */
    private void put(long hash, Segment segment) {
        VarHandle.releaseFence(); // Readers follow the entry without any other order.
        Segment[] now = directory;
        int step = 1 << segment.depth;
        for (int i = (int) hash & step - 1; i < now.length; i += step) {
            now[i] = segment;
        }
    }

    /** Adds the chain of a key that has none, for which room has been made. */
    void add(VersionChain chain) {
        long hash = hash(chain.key);
        segment(hash).add(hash, chain);
        size++;
    }

    /** Removes a chain that nobody can read any more; false if it is not here. Needs no memory. */
    boolean remove(VersionChain chain) {
        long hash = hash(chain.key);
        Segment segment = segment(hash);
        if (!segment.remove(hash, chain)) {
            return false;
        }
        size--;
        if (segment.depth > 0 && segment.taken <= SEGMENT_PLACES / 4) {
            mergeIfSmall(hash, segment);
        }
        return true;
    }

    /** Joins a segment with the one that it was split from, so that a table that has shrunk takes as little as it should. */
    private void mergeIfSmall(long hash, Segment segment) {
        long bit = 1L << segment.depth - 1;
        Segment other = segment(hash ^ bit);
        if (other.depth == segment.depth && segment.taken + other.taken <= SEGMENT_PLACES / 2) {
            Segment merged;
            try {
                merged = new Segment(SEGMENT_PLACES, segment.depth - 1);
            } catch (OutOfMemoryError e) {
                return; // It can stay as it is.
            }
            copy(segment, merged, merged);
            copy(other, merged, merged);
            put(hash, merged);
        }
    }

    /** How many places there are, taken or not. */
    long places() {
        long places = 0;
        Segment[] now = directory;
        for (Segment segment : now) {
            places += segment.places.length / (now.length >> segment.depth);
        }
        return places;
    }

    int directoryLength() {
        return directory.length;
    }

    // ---- Hashing ----

    /** All 64 bits of it are used, those in which two keys differ as well as any others. */
    long hash(byte[] key) {
        int length = key.length;
        long hash = secret;
        for (int i = 0; i < length - 16; i += 16) {
            hash = mixed(eight(key, i) ^ otherSecret, eight(key, i + 8) ^ hash);
        }
        long first;
        long last;
        if (length >= 8) {
            first = eight(key, Math.max(0, length - 16));
            last = eight(key, length - 8);
        } else if (length >= 4) {
            first = (int) INTS.get(key, 0);
            last = (int) INTS.get(key, length - 4);
        } else {
            first = length == 0 ? 0 : key[0] << 16 ^ key[length / 2] << 8 ^ key[length - 1];
            last = 0;
        }
        return mixed(otherSecret ^ length, mixed(first ^ otherSecret, last ^ hash));
    }

    private static long eight(byte[] key, int index) {
        return (long) LONGS.get(key, index);
    }

    private static long mixed(long a, long b) {
        return Math.multiplyHigh(a, b) ^ a * b;
    }
}
