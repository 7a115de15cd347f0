package homekv.storage;

import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;

/** Records of the log, made at random. */
final class LogRecords {
    private LogRecords() {}

    /** A record with at most so many writes, whose values have at most so many bytes. */
    static LogRecord random(SplittableRandom random, int writes, int valueBytes) {
        return switch (random.nextInt(6)) {
            case 0 -> new LogRecord.Granted(positive(random), natural(random), natural(random));
            case 1 -> new LogRecord.Compacted(natural(random));
            case 2 -> new LogRecord.Closed(leases(random, random.nextInt(4)));
            case 3 ->
                new LogRecord.Committed(
                        natural(random), writes(random, writes, valueBytes), positive(random), natural(random));
            default -> new LogRecord.Committed(natural(random), writes(random, writes, valueBytes), 0, 0);
        };
    }

    static List<LeaseLeft> leases(SplittableRandom random, int count) {
        List<LeaseLeft> leases = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            leases.add(new LeaseLeft(
                    positive(random), natural(random), natural(random), natural(random), random.nextBoolean()));
        }
        return leases;
    }

    private static List<Write> writes(SplittableRandom random, int most, int valueBytes) {
        List<Write> writes = new ArrayList<>();
        for (int count = random.nextInt(most + 1); count > 0; count--) {
            Bytes key = bytes(random, 1 + random.nextInt(20));
            writes.add(
                    switch (random.nextInt(3)) {
                        case 0 -> new Write.Delete(key);
                        case 1 -> new Write.Put(key, bytes(random, random.nextInt(valueBytes + 1)), positive(random));
                        default -> new Write.Put(key, bytes(random, random.nextInt(valueBytes + 1)));
                    });
        }
        return writes;
    }

    static Bytes bytes(SplittableRandom random, int length) {
        byte[] bytes = new byte[length];
        random.nextBytes(bytes);
        return Bytes.unsafeWrap(bytes);
    }

    /** Small ones as often as large ones. */
    private static long natural(SplittableRandom random) {
        return random.nextLong() >>> 1 + random.nextInt(63);
    }

    private static long positive(SplittableRandom random) {
        return Math.max(1, natural(random));
    }
}
