package homekv.storage;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.SplittableRandom;

/**
 * The newest version of every key by a hash of the key: finds one key's with a few fetches from memory, where the ordered
 * map is searched with twenty and more. From there the older ones are found. A chain without versions stands here itself.
 *
 * <p>Any thread may look up at any time; it takes no lock and never waits (S10). Only the writer, in its turn, changes.
 * Adding what there has been made room for, setting what is newest and removing need no memory. Growing is bounded work
 * for each key that is added, however many there are: a segment of a few hundred places is split, never the whole table.
 *
 * <p>Cost: 11 to 22 bytes of heap a key, 16 on average. Which keys meet in a segment depends on secrets of this table's
 * own, so it takes no more than chance to make look-ups long; keys whose hashes are equal are told apart all the same.
 *
 * <p>Source: R. Fagin, J. Nievergelt, N. Pippenger, H. R. Strong, "Extendible Hashing" (1979); linear probing, D. E. Knuth,
 * "The Art of Computer Programming", volume 3, section 6.4; the hash is built like wyhash.
 */
/*
 * The low bits of a key's hash choose an entry of the directory, which refers to a segment; a segment whose depth is less
 * than the directory's stands in several. The high bits choose a place in the segment, from which on the key is looked
 * for, place by place, until there is one that is empty. Beside each place stands the hash of the key that is in it,
 * or EMPTY, or DELETED: so a look-up fetches no version but the one that it is for, it fetches the place while it has yet
 * to compare the hash, and splitting a segment fetches no version at all.
 *
 * Why the newest versions stand here and not in their chains. A collector that moves objects looks, at each collection,
 * through the cards (512 bytes of heap) in which something came to refer to a young object. Here 128 keys share a card,
 * and the cards of a segment lie side by side; chains lie all over the heap.
 *
 * Why a reader misses no chain that its revision sees (S18). Such a chain was added before the revision was published
 * and is removed after nobody reads it any more, so it is in the table for all of the look-up. As long as it is:
 *
 *   - it keeps its place in its segment: nothing is ever moved within one;
 *   - no place before it comes to be empty. It was put behind these because they were taken; and one that is removed leaves
 *     DELETED. Where the next place is empty, nothing lies behind it on its account, and so it leaves EMPTY;
 *   - whoever has found an old segment, or directory, goes on in one that is never changed any more, and has the chain.
 *
 * Why what stands in the chain's place leads to every version that the revision sees. Such a version was put before the
 * revision was published, and the reader looks up the directory after it has read that. So the segment that it finds is
 * the one that the version was put into, or one that has been copied from that since: no version is ever put into a
 * segment that has been replaced. What has taken the version's place in it since has it behind it, as long as anybody
 * reads it (S6); and what lies behind a version was linked before that was put here.
 *
 * What has been added or removed meanwhile the reader may find or not: neither is seen by its revision. A place that has
 * a version of another chain by the time it is looked at has another key.
 */
class ChainTable {
    private static final VarHandle HASHES = MethodHandles.arrayElementVarHandle(int[].class);

    private static final VarHandle PLACES = MethodHandles.arrayElementVarHandle(Version[].class);

    private static final VarHandle LONGS = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);

    private static final VarHandle INTS = MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.LITTLE_ENDIAN);

    private static final int EMPTY = 0;
    private static final int DELETED = 1;

    /** Set in every hash, and so in what stands beside a place that has a chain, and else nowhere. */
    static final int TAKEN = Integer.MIN_VALUE;

    private static final int LEAST_PLACES = 8;

    /** A segment with so many places is split when it is full; before, it is doubled. */
    static final int SEGMENT_PLACES = 512;

    /** The directory is not doubled when it has more entries than one for so many keys: then hashes are equal. */
    private static final int LEAST_KEYS_PER_ENTRY = 16;

    private final long secret;
    private final long otherSecret;

    /** Its length is a power of two. Entries are replaced in place. */
    private volatile Segment[] directory = {new Segment(LEAST_PLACES, 0)};

    private int size;

    /** Means nothing; see {@link #fetch}. */
    private int fetched;

    /** An empty table. */
    ChainTable() {
        // From a generator that nothing is told of. A cryptographic one would cost a start a twentieth of a second.
        SplittableRandom secrets = new SplittableRandom();
        secret = secrets.nextLong() ^ System.nanoTime();
        otherSecret = secrets.nextLong();
    }

    /** What has the same low bits of the hash, as many as {@code depth} says. The counts are the writer's own. */
    private static final class Segment {
        /** Of the keys of {@link #places}, or what else is said of each place. */
        final int[] hashes;

        /** Newest versions, or chains without versions. */
        final Version[] places;

        final int depth;

        int taken;

        /** How many places are not empty. Never all, so that every look-up comes to an end. */
        int used;

        Segment(int places, int depth) {
            this.hashes = new int[places];
            this.places = new Version[places];
            this.depth = depth;
        }

        boolean isFull() {
            return used == places.length / 4 * 3;
        }

        Version find(int hash, byte[] key) {
            int last = hashes.length - 1;
            for (int place = firstPlace(hash); ; place = place + 1 & last) {
                int found = (int) HASHES.getAcquire(hashes, place);
                if (found == hash) {
                    Version newest = newest(place);
                    if (newest != null && Arrays.equals(newest.key, key)) {
                        return newest;
                    }
                } else if (found == EMPTY) {
                    return null;
                }
            }
        }

        /** What is looked at first. The result means nothing. */
        int fetch(int hash) {
            int place = firstPlace(hash);
            return hashes[place] + (places[place] == null ? 1 : 0);
        }

        /** The first that has this hash, or null. */
        Version first(int hash) {
            int last = hashes.length - 1;
            for (int place = firstPlace(hash); ; place = place + 1 & last) {
                if (hashes[place] == hash) {
                    return newest(place);
                } else if (hashes[place] == EMPTY) {
                    return null;
                }
            }
        }

        /** The place of a chain, or -1. */
        int place(VersionChain chain) {
            int hash = chain.hash();
            int last = hashes.length - 1;
            for (int place = firstPlace(hash); ; place = place + 1 & last) {
                int found = (int) HASHES.getAcquire(hashes, place);
                if (found == hash) {
                    Version newest = newest(place);
                    if (newest != null && newest.chain() == chain) {
                        return place;
                    }
                } else if (found == EMPTY) {
                    return -1;
                }
            }
        }

        /** The place of what is newest of a key, or -1. */
        int place(int hash, Version newest) {
            int last = hashes.length - 1;
            for (int place = firstPlace(hash); ; place = place + 1 & last) {
                if (places[place] == newest) {
                    return place;
                } else if (hashes[place] == EMPTY) {
                    return -1;
                }
            }
        }

        Version newest(int place) {
            return (Version) PLACES.getAcquire(places, place);
        }

        /** Whoever finds the version finds what lies behind it. */
        void set(int place, Version newest) {
            PLACES.setRelease(places, place, newest);
        }

        void add(int hash, Version newest) {
            int last = hashes.length - 1;
            int place = firstPlace(hash);
            while (hashes[place] < 0) {
                place = place + 1 & last;
            }
            used += hashes[place] == EMPTY ? 1 : 0;
            taken++;
            set(place, newest);
            HASHES.setRelease(hashes, place, hash); // After the place: who finds the hash finds the version.
        }

        /** False if it is not here. */
        boolean remove(VersionChain chain) {
            int place = place(chain);
            if (place < 0) {
                return false;
            }
            boolean isLast = hashes[place + 1 & hashes.length - 1] == EMPTY;
            used -= isLast ? 1 : 0;
            taken--;
            hashes[place] = isLast ? EMPTY : DELETED;
            places[place] = null;
            return true;
        }

        private int firstPlace(int hash) {
            return hash << 1 >>> Integer.numberOfLeadingZeros(hashes.length - 1);
        }
    }

    /** The newest version of a key, or its chain without versions, or null if it has no chain. */
    Version find(byte[] key) {
        int hash = hash(key);
        return segment(hash).find(hash, key);
    }

    /**
     * The newest version of a chain, or the chain itself if it has none. Of a chain that is not here, null or the chain. For
     * others than the writer: what a revision sees that they have read as published before, is it or lies behind it.
     */
    /*
     * Without a look-up where the chain is not marked as overwritten: it is marked before any other version of it comes
     * here, and so before the revision of such a version is published. Who has read a revision as published and then no
     * mark, knows that all other versions are newer than that, and that the chain itself is what there is for it.
     */
    Version newest(VersionChain chain) {
        if (!chain.isOverwritten()) {
            return chain;
        }
        Segment segment = segment(chain.hash());
        int place = segment.place(chain);
        Version newest = place < 0 ? null : segment.newest(place);
        return newest == null || newest.chain() != chain ? null : newest; // It may have left the place meanwhile.
    }

    /**
     * Begins to fetch from memory what {@link #newest} looks at first, without a step that waits for it: so it is fetched for
     * several chains at the same time. What it returns has to be used, or compilers leave it out.
     */
    int fetch(VersionChain chain) {
        if (!chain.isOverwritten()) {
            return 0;
        }
        return segment(chain.hash()).fetch(chain.hash());
    }

    /**
     * Has what {@link #find} looks at for these keys fetched from memory, and what it finds. Each of the look-ups waits for one
     * fetch after another; here the fetches of all of them are under way at the same time. Changes nothing.
     *
     * <p>Source: S. Chen, A. Ailamaki, P. B. Gibbons, T. C. Mowry, "Improving Hash Join Performance through Prefetching"
     * (2004), section 4, group prefetching.
     */
    void fetch(byte[][] keys) {
        int count = keys.length;
        int[] hashes = new int[count];
        int sum = 0;
        for (int i = 0; i < count; i++) {
            hashes[i] = hash(keys[i]);
            sum += segment(hashes[i]).fetch(hashes[i]);
        }
        for (int i = 0; i < count; i++) {
            Version newest = segment(hashes[i]).first(hashes[i]);
            if (newest != null) {
                byte[] value = newest.value;
                sum += newest.key.length + (value == null ? 0 : value.length);
            }
        }
        if (sum == Integer.MIN_VALUE) {
            fetched = sum; // It never comes to that, but compilers leave out what nobody uses.
        }
    }

    /**
     * Puts another version of the same key, or its chain for none, in the place of what stands here as newest. Needs no
     * memory; and if that is not the chain itself, the chain is not fetched for it.
     */
    void replace(Version newest, Version by) {
        if (newest instanceof VersionChain chain && newest != by && !chain.isOverwritten()) {
            chain.overwritten();
        }
        int hash = hash(newest.key);
        Segment segment = segment(hash);
        int place = segment.place(hash, newest);
        assert place >= 0 : "S18: what is replaced is not what the table has";
        segment.set(place, by);
    }

    private Segment segment(int hash) {
        Segment[] now = directory;
        return now[hash & now.length - 1];
    }

    /** How many chains there are. */
    int size() {
        return size;
    }

    /** Makes room for one chain. May run out of memory, and then nothing has changed. */
    void reserve(VersionChain chain) {
        int hash = chain.hash();
        for (Segment segment; (segment = segment(hash)).isFull(); ) {
            makeRoom(hash, segment);
        }
    }

    private void makeRoom(int hash, Segment full) {
        int places = full.places.length;
        if (full.taken <= places / 8 * 3) {
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

    private void replace(int hash, Segment old, int places) {
        Segment replacement = new Segment(places, old.depth);
        copy(old, replacement, replacement);
        put(hash, replacement);
    }

    private void split(int hash, Segment full) {
        Segment even = new Segment(full.places.length, full.depth + 1);
        Segment odd = new Segment(full.places.length, full.depth + 1);
        copy(full, even, odd);
        int bit = 1 << full.depth;
        put(hash & ~bit, even);
        put(hash | bit, odd);
    }

    /** Adds what is in one segment to two others, by the first bit of the hashes that may differ. */
    private void copy(Segment from, Segment even, Segment odd) {
        for (int place = 0; place < from.places.length; place++) {
            int hash = from.hashes[place];
            if (hash < 0) {
                ((hash >>> from.depth & 1) == 0 ? even : odd).add(hash, from.places[place]);
            }
        }
    }

    /** Puts a segment, whole, into all entries of the directory that are its. */
    private void put(int hash, Segment segment) {
        VarHandle.releaseFence(); // Readers follow the entry without any other order.
        Segment[] now = directory;
        int step = 1 << segment.depth;
        for (int i = hash & step - 1; i < now.length; i += step) {
            now[i] = segment;
        }
    }

    /** Adds the newest version of a key that has no chain here, or its chain, for which room has been made. */
    void add(Version newest) {
        VersionChain chain = newest.chain();
        if (newest != chain && !chain.isOverwritten()) {
            chain.overwritten();
        }
        segment(chain.hash()).add(chain.hash(), newest);
        size++;
    }

    /** Removes a chain that nobody can read any more; false if it is not here. Needs no memory. */
    boolean remove(VersionChain chain) {
        int hash = chain.hash();
        Segment segment = segment(hash);
        if (!segment.remove(chain)) {
            return false;
        }
        size--;
        if (segment.depth > 0 && segment.taken <= SEGMENT_PLACES / 4) {
            mergeIfSmall(hash, segment);
        }
        return true;
    }

    /** Joins a segment with the one that it was split from, so that a table that has shrunk takes as little as it should. */
    private void mergeIfSmall(int hash, Segment segment) {
        int bit = 1 << segment.depth - 1;
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

    /** All bits of it are used but {@link #TAKEN}, those in which two keys differ as well as any others. */
    int hash(byte[] key) {
        int length = key.length;
        long before = secret;
        for (int i = 0; i < length - 16; i += 16) {
            before = mixed(eight(key, i) ^ otherSecret, eight(key, i + 8) ^ before);
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
        return (int) (mixed(otherSecret ^ length, mixed(first ^ otherSecret, last ^ before)) >>> 32) | TAKEN;
    }

    private static long eight(byte[] key, int index) {
        return (long) LONGS.get(key, index);
    }

    private static long mixed(long a, long b) {
        return Math.multiplyHigh(a, b) ^ a * b;
    }
}
