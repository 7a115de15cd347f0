package homekv.storage;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReferenceArray;

/**
 * The snapshots that are open: where readers publish what they pin, and where the writer looks before it drops a
 * version (S4).
 *
 * <p>Any thread may add and remove, without locks; only the writer, in its turn, scans. Adding costs one compare and
 * set in an own cache line as long as no more snapshots are open than the first block has slots, a scan costs a read
 * per slot of the blocks in use.
 */
/*
 * Why a scan misses no snapshot that matters. The reader (1) puts itself into a slot with the revision that it is going to
 * read and (2) reads the compact revision, until that is not above it. The writer (1) raises the compact revision and (2)
 * scans. All four are volatile. If the scan does not see the reader's slot, or sees it with another revision, then the
 * reader's second step comes after the writer's first, and the reader sees that its revision may have been given up: it
 * takes the newest one instead, or fails where it was to read that very one. Blocks behind the first are skipped
 * while their count is zero; a reader raises the count before it takes a slot, so the same argument holds for it.
 */
final class OpenSnapshots {
    /** Slots lie a cache line apart, so that readers on different cores do not slow each other. */
    private static final int SLOT_STRIDE = 16;

    /** Of blocks beyond the capacity, for the store's own reads. */
    private static final int MAX_BLOCK_SIZE = 1 << 16;

    private static final class Block {
        final AtomicReferenceArray<Snapshot> slots;
        final int size;
        final AtomicInteger taken = new AtomicInteger();

        Block(int size) {
            this.size = size;
            this.slots = new AtomicReferenceArray<>(size * SLOT_STRIDE);
        }
    }

    private final int firstBlockSize;
    private final int capacity;

    /** Each block is twice as large as the one before it and is made when all before it are full. */
    private final AtomicReferenceArray<Block> blocks;

    /** The result of the last scan, in falling order; the writer's own. */
    private long[] pinned = new long[16];

    private int pinnedCount;

    OpenSnapshots(int capacity, int processors) {
        this.capacity = capacity;
        this.firstBlockSize = Math.min(capacity, Math.max(8, 2 * processors));
        this.blocks = new AtomicReferenceArray<>(Integer.SIZE);
        blocks.set(0, new Block(firstBlockSize));
    }

    /**
     * Takes a slot for the snapshot; false if as many are open as may be. The store's own reads always find one, in
     * blocks beyond the capacity if need be.
     */
    boolean add(Snapshot snapshot) {
        long probe = Thread.currentThread().threadId();
        int earlierSlots = 0;
        for (int i = 0; earlierSlots < capacity || !snapshot.expirable; i++) {
            Block block = block(i, earlierSlots);
            snapshot.blockIndex = i;
            if (addTo(block, i > 0, probe, snapshot)) {
                return true;
            }
            earlierSlots += block.size;
        }
        return false;
    }

    private static boolean addTo(Block block, boolean counted, long probe, Snapshot snapshot) {
        if (counted && block.taken.incrementAndGet() > block.size) {
            block.taken.decrementAndGet();
            return false;
        }
        for (int i = 0; i < block.size; i++) {
            int slot = (int) ((probe + i) % block.size) * SLOT_STRIDE;
            if (block.slots.get(slot) == null) {
                snapshot.slot = slot; // Before others can find it, since whoever does may expire it at once.
                if (block.slots.compareAndSet(slot, null, snapshot)) {
                    return true;
                }
            }
        }
        if (counted) {
            block.taken.decrementAndGet();
        }
        return false;
    }

    private Block block(int index, int earlierSlots) {
        Block block = blocks.get(index);
        if (block == null) {
            long wanted = (long) firstBlockSize << index;
            long left = earlierSlots < capacity ? capacity - earlierSlots : MAX_BLOCK_SIZE;
            blocks.compareAndSet(index, null, new Block((int) Math.min(wanted, left)));
            block = blocks.get(index);
        }
        return block;
    }

    /** Gives the slot of a snapshot back; called once a snapshot, by whoever ended it. */
    void remove(Snapshot snapshot) {
        Block block = blocks.get(snapshot.blockIndex);
        block.slots.set(snapshot.slot, null);
        if (snapshot.blockIndex > 0) {
            block.taken.decrementAndGet();
        }
    }

    /** Looks which revisions are pinned now. In the writer's turn, after publishing. */
    void scan() {
        pinnedCount = 0;
        Block block;
        for (int i = 0; (block = blocks.get(i)) != null; i++) {
            if (i > 0 && block.taken.get() == 0) {
                continue;
            }
            for (int slot = 0; slot < block.slots.length(); slot += SLOT_STRIDE) {
                Snapshot snapshot = block.slots.get(slot);
                if (snapshot != null) {
                    collect(snapshot.revision());
                }
            }
        }
        if (pinnedCount > 1) {
            sortFalling();
        }
    }

    private void collect(long revision) {
        if (pinnedCount == pinned.length) {
            pinned = Arrays.copyOf(pinned, 2 * pinned.length);
        }
        pinned[pinnedCount++] = revision;
    }

    private void sortFalling() {
        Arrays.sort(pinned, 0, pinnedCount);
        for (int low = 0, high = pinnedCount - 1; low < high; low++, high--) {
            long revision = pinned[low];
            pinned[low] = pinned[high];
            pinned[high] = revision;
        }
    }

    /** How many pins the last scan found; several may be of the same revision. */
    int pinnedCount() {
        return pinnedCount;
    }

    /** A revision that the last scan found pinned; the first is the highest. */
    long pinned(int index) {
        return pinned[index];
    }

    /** The index of the first pin below {@code revision}, from {@code low} on; the number of pins if there is none. */
    int firstPinnedBelow(long revision, int low) {
        int first = low;
        int end = pinnedCount;
        while (first < end) {
            int middle = (first + end) >>> 1;
            if (pinned[middle] >= revision) {
                first = middle + 1;
            } else {
                end = middle;
            }
        }
        return first;
    }

    /** The open snapshots that may be expired and pin a revision below this one, in no order. Any thread. */
    List<Snapshot> expirableBelow(long revision) {
        List<Snapshot> expirable = new ArrayList<>();
        Block block;
        for (int i = 0; (block = blocks.get(i)) != null; i++) {
            for (int slot = 0; slot < block.slots.length(); slot += SLOT_STRIDE) {
                Snapshot snapshot = block.slots.get(slot);
                if (snapshot != null && snapshot.expirable && snapshot.revision() < revision && snapshot.isOpen()) {
                    expirable.add(snapshot);
                }
            }
        }
        return expirable;
    }
}
