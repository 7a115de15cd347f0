package homekv.rpc;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Finds what a strictly serializable store cannot have done in a history of transactions that read lists and append to
 * them: who read and wrote what gives the order of the transactions, and a cycle in it is an anomaly.
 *
 * <p>Source: K. Kingsbury and P. Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations" (2020); the
 * names of the anomalies are those of A. Adya, "Weak Consistency" (1999).
 */
final class ListAppend {
    enum Anomaly {
        /** A cycle of writes over writes. */
        G0,
        /** A read of what was never committed. */
        G1A,
        /** A read of what its writer had not finished. */
        G1B,
        /** A cycle of writes over writes and reads of writes. */
        G1C,
        /** A cycle with one write over what was read. */
        G_SINGLE,
        /** A cycle with several writes over what was read. */
        G2,
        /** A cycle that only the clock closes: what had been answered was not seen later. */
        REAL_TIME,
        /** Two reads that no one order of appends explains, or a read of what nobody wrote. */
        INCOMPATIBLE,
        /** A committed append that a later read of everything does not have. */
        LOST
    }

    enum Outcome {
        COMMITTED,
        ABORTED,
        UNKNOWN
    }

    sealed interface Step {
        int key();
    }

    record Append(int key, int value) implements Step {}

    record Read(int key, List<Integer> found) implements Step {}

    /** A transaction, from its call to its answer. */
    record Transaction(long calledNanos, long answeredNanos, Outcome outcome, List<Step> steps) {
        static Transaction committed(long called, long answered, Step... steps) {
            return new Transaction(called, answered, Outcome.COMMITTED, List.of(steps));
        }
    }

    private enum Edge {
        WRITE_WRITE,
        WRITE_READ,
        READ_WRITE,
        TIME
    }

    private record Written(int key, int value) {}

    private final List<Transaction> history;
    private final EnumSet<Anomaly> found = EnumSet.noneOf(Anomaly.class);
    private final Map<Written, Integer> writers = new HashMap<>();
    private final Map<Integer, List<Integer>> orders = new HashMap<>();
    private final List<Map<Integer, EnumSet<Edge>>> edges = new ArrayList<>();

    private ListAppend(List<Transaction> history) {
        this.history = history;
        history.forEach(transaction -> edges.add(new HashMap<>()));
    }

    /** What is wrong with a history. */
    static Set<Anomaly> anomalies(List<Transaction> history) {
        ListAppend check = new ListAppend(history);
        check.collectWriters();
        check.collectOrders();
        check.checkReads();
        check.collectEdges();
        check.findCycles();
        return check.found;
    }

    private void collectWriters() {
        for (int i = 0; i < history.size(); i++) {
            for (Step step : history.get(i).steps) {
                if (step instanceof Append append) {
                    writers.put(new Written(append.key, append.value), i);
                }
            }
        }
    }

    /** Each key's order of appends: the longest that was read. */
    private void collectOrders() {
        for (Transaction transaction : history) {
            if (transaction.outcome == Outcome.COMMITTED) {
                for (Step step : transaction.steps) {
                    if (step instanceof Read read) {
                        orders.merge(read.key, read.found, (a, b) -> a.size() >= b.size() ? a : b);
                    }
                }
            }
        }
        for (int i = 0; i < history.size(); i++) {
            Transaction transaction = history.get(i);
            if (transaction.outcome == Outcome.COMMITTED) {
                for (Step step : transaction.steps) {
                    if (step instanceof Append append
                            && orders.containsKey(append.key)
                            && !orders.get(append.key).contains(append.value)
                            && readEntirelyAfter(append.key, transaction.answeredNanos)) {
                        found.add(Anomaly.LOST);
                    }
                }
            }
        }
    }

    private boolean readEntirelyAfter(int key, long nanos) {
        return history.stream()
                .anyMatch(later -> later.outcome == Outcome.COMMITTED
                        && later.calledNanos > nanos
                        && later.steps.stream().anyMatch(step -> step instanceof Read read && read.key == key));
    }

    private void checkReads() {
        for (int i = 0; i < history.size(); i++) {
            Transaction transaction = history.get(i);
            if (transaction.outcome != Outcome.COMMITTED) {
                continue;
            }
            for (Step step : transaction.steps) {
                if (step instanceof Read read) {
                    checkRead(i, read);
                }
            }
        }
    }

    private void checkRead(int reader, Read read) {
        List<Integer> order = orders.get(read.key);
        if (!order.subList(0, read.found.size()).equals(read.found)
                || new HashSet<>(read.found).size() < read.found.size()) {
            found.add(Anomaly.INCOMPATIBLE);
        }
        for (int value : read.found) {
            Integer writer = writers.get(new Written(read.key, value));
            if (writer == null) {
                found.add(Anomaly.INCOMPATIBLE);
            } else if (history.get(writer).outcome == Outcome.ABORTED) {
                found.add(Anomaly.G1A);
            }
        }
        if (!read.found.isEmpty()) {
            int last = read.found.get(read.found.size() - 1);
            Integer writer = writers.get(new Written(read.key, last));
            if (writer != null && writer != reader && lastAppend(history.get(writer), read.key) != last) {
                found.add(Anomaly.G1B);
            }
        }
    }

    private static int lastAppend(Transaction transaction, int key) {
        int last = -1;
        for (Step step : transaction.steps) {
            if (step instanceof Append append && append.key == key) {
                last = append.value;
            }
        }
        return last;
    }

    private void collectEdges() {
        orders.forEach((key, order) -> {
            for (int i = 1; i < order.size(); i++) {
                add(writer(key, order.get(i - 1)), writer(key, order.get(i)), Edge.WRITE_WRITE);
            }
        });
        for (int i = 0; i < history.size(); i++) {
            Transaction transaction = history.get(i);
            if (transaction.outcome != Outcome.COMMITTED) {
                continue;
            }
            Set<Integer> appended = new HashSet<>();
            for (Step step : transaction.steps) {
                switch (step) {
                    case Append append -> appended.add(append.key);
                    case Read read -> {
                        if (!appended.contains(read.key)) { // Else it has seen its own.
                            addRead(i, read);
                        }
                    }
                }
            }
            for (int j = 0; j < history.size(); j++) {
                if (transaction.answeredNanos < history.get(j).calledNanos) {
                    add(i, j, Edge.TIME);
                }
            }
        }
    }

    private void addRead(int reader, Read read) {
        List<Integer> order = orders.get(read.key);
        int size = read.found.size();
        if (size > 0) {
            add(writer(read.key, read.found.get(size - 1)), reader, Edge.WRITE_READ);
        }
        if (size < order.size()) {
            add(reader, writer(read.key, order.get(size)), Edge.READ_WRITE);
        }
    }

    private int writer(int key, int value) {
        return writers.getOrDefault(new Written(key, value), -1);
    }

    private void add(int from, int to, Edge edge) {
        if (from >= 0 && to >= 0 && from != to) {
            edges.get(from).computeIfAbsent(to, k -> EnumSet.noneOf(Edge.class)).add(edge);
        }
    }

    private void findCycles() {
        EnumSet<Edge> writes = EnumSet.of(Edge.WRITE_WRITE);
        EnumSet<Edge> dependencies = EnumSet.of(Edge.WRITE_WRITE, Edge.WRITE_READ);
        EnumSet<Edge> all = EnumSet.of(Edge.WRITE_WRITE, Edge.WRITE_READ, Edge.READ_WRITE);
        if (cycleThrough(writes, writes)) {
            found.add(Anomaly.G0);
        }
        if (cycleThrough(EnumSet.of(Edge.WRITE_READ), dependencies)) {
            found.add(Anomaly.G1C);
        }
        if (cycleThrough(EnumSet.of(Edge.READ_WRITE), dependencies)) {
            found.add(Anomaly.G_SINGLE);
        } else if (cycleThrough(EnumSet.of(Edge.READ_WRITE), all)) {
            found.add(Anomaly.G2);
        }
        if (found.isEmpty() && cycleThrough(EnumSet.of(Edge.TIME), EnumSet.allOf(Edge.class))) {
            found.add(Anomaly.REAL_TIME);
        }
    }

    /** Whether an edge of one kind lies on a cycle whose other edges are of these kinds. */
    private boolean cycleThrough(EnumSet<Edge> one, EnumSet<Edge> others) {
        for (int to = 0; to < edges.size(); to++) {
            Set<Integer> reached = null;
            for (int from = 0; from < edges.size(); from++) {
                EnumSet<Edge> kinds = edges.get(from).get(to);
                if (kinds != null && intersects(kinds, one)) {
                    reached = reached != null ? reached : reached(to, others);
                    if (reached.contains(from)) {
                        return true;
                    }
                }
            }
        }
        return false;
    }

    private Set<Integer> reached(int start, EnumSet<Edge> over) {
        Set<Integer> reached = new HashSet<>(Set.of(start));
        Deque<Integer> open = new ArrayDeque<>(reached);
        while (!open.isEmpty()) {
            edges.get(open.pop()).forEach((next, kinds) -> {
                if (intersects(kinds, over) && reached.add(next)) {
                    open.push(next);
                }
            });
        }
        return reached;
    }

    private static boolean intersects(EnumSet<Edge> a, EnumSet<Edge> b) {
        for (Edge edge : a) {
            if (b.contains(edge)) {
                return true;
            }
        }
        return false;
    }
}
