package homekv.bench;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.util.SplittableRandom;

/**
 * What is done with a {@link Contender}, many times in a row, so that the compiler sees each loop by itself. Keys are read
 * in an order that was drawn beforehand.
 */
enum Operation {
    GET("get") {
        @Override
        long times(int times, Contender contender, Order order) {
            long sum = 0;
            for (int i = 0; i < times; i++) {
                sum += contender.get(key(order.next()));
            }
            return sum;
        }
    },

    /** Overwrites. */
    PUT("put") {
        @Override
        long times(int times, Contender contender, Order order) {
            for (int i = 0; i < times; i++) {
                put(contender, order.next(), order.valueBytes);
            }
            return 0;
        }
    },

    /** 95 gets on 5 overwrites. */
    MIXED("95 gets on 5 puts") {
        @Override
        long times(int times, Contender contender, Order order) {
            long sum = 0;
            for (int i = 0; i < times; i++) {
                int number = order.next();
                if (order.position % 20 == 0) {
                    put(contender, number, order.valueBytes);
                } else {
                    sum += contender.get(key(number));
                }
            }
            return sum;
        }
    },

    /** Ten keys as of one moment. */
    MULTI_GET("multi-get of 10") {
        @Override
        long times(int times, Contender contender, Order order) {
            long sum = 0;
            byte[][] keys = new byte[10][];
            for (int i = 0; i < times; i++) {
                for (int j = 0; j < keys.length; j++) {
                    keys[j] = key(order.next());
                }
                sum += contender.multiGet(keys);
            }
            return sum;
        }
    },

    /** A hundred keys in their order, as of one moment. */
    SCAN("scan of 100") {
        @Override
        long times(int times, Contender contender, Order order) {
            long sum = 0;
            for (int i = 0; i < times; i++) {
                sum += contender.scan(key(order.next()), 100);
            }
            return sum;
        }
    },

    /** Opens and closes a view. */
    SNAPSHOT("snapshot, opened and closed") {
        @Override
        long times(int times, Contender contender, Order order) {
            long sum = 0;
            for (int i = 0; i < times; i++) {
                sum += contender.snapshot();
            }
            return sum;
        }
    },

    /** Nothing but to keep a processor busy: what is slower beside this has lost a processor to it, and nothing else. */
    COMPUTE("computing") {
        @Override
        long times(int times, Contender contender, Order order) {
            long sum = 1;
            for (int i = 0; i < 1_000 * times; i++) {
                sum = sum * 0x9E3779B97F4A7C15L + i;
            }
            return sum;
        }
    };

    /** A random order in which keys are used, over and over. For one thread. */
    static final class Order {
        private final int[] numbers = new int[1 << 20];
        private final int valueBytes;
        private int position;

        Order(int keys, int valueBytes, long seed) {
            this.valueBytes = valueBytes;
            SplittableRandom random = new SplittableRandom(seed);
            for (int i = 0; i < numbers.length; i++) {
                numbers[i] = random.nextInt(keys);
            }
        }

        int next() {
            return numbers[position++ & numbers.length - 1];
        }
    }

    private static final VarHandle LONG = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.BIG_ENDIAN);

    final String title;

    Operation(String title) {
        this.title = title;
    }

    /** Does it so many times; the sum is to be used, so that nothing is optimized away. */
    abstract long times(int times, Contender contender, Order order);

    /** The key of 16 bytes that has a number, in no order. */
    static byte[] key(int number) {
        byte[] key = new byte[16];
        LONG.set(key, 0, number * 0x9E3779B97F4A7C15L);
        LONG.set(key, 8, (long) number);
        return key;
    }

    static void put(Contender contender, int number, int valueBytes) {
        byte[] value = new byte[valueBytes];
        value[0] = (byte) number;
        contender.put(key(number), value);
    }
}
