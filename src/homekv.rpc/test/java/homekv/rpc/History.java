package homekv.rpc;

import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.OptionalLong;
import java.util.Set;
import java.util.TreeMap;

/**
 * What concurrent clients did to a few keys and what they were answered, and whether that is linearizable.
 *
 * <p>Keys are the numbers from 0 on, values are numbers that no two writes share, null is an absent key.
 */
final class History {
    /** What one call asked for and was answered. */
    sealed interface Action {
        /** The state after this action on {@code state}, or null if it would have been answered otherwise there. */
        List<Integer> apply(List<Integer> state);
    }

    /** Puts, and deletes where the value is null. */
    record Wrote(Map<Integer, Integer> values) implements Action {
        @Override
        public List<Integer> apply(List<Integer> state) {
            List<Integer> next = new ArrayList<>(state);
            values.forEach(next::set);
            return next;
        }
    }

    record Deleted(Set<Integer> keys, long deleted) implements Action {
        @Override
        public List<Integer> apply(List<Integer> state) {
            List<Integer> next = new ArrayList<>(state);
            long found =
                    keys.stream().filter(key -> next.set(key, null) != null).count();
            return found == deleted ? next : null;
        }
    }

    record Found(List<Integer> keys, List<Integer> values) implements Action {
        @Override
        public List<Integer> apply(List<Integer> state) {
            return keys.stream().map(state::get).toList().equals(values) ? state : null;
        }
    }

    /** An action between the moments of its call and its answer, with the revision that the answer named. */
    record Operation(long calledNanos, long answeredNanos, OptionalLong revision, Action action) {}

    private final int keys;
    private final List<Operation> operations;

    History(int keys, List<Operation> operations) {
        this.keys = keys;
        this.operations = operations;
    }

    List<Operation> operations() {
        return operations;
    }

    private List<Integer> emptyState() {
        return Collections.nCopies(keys, null);
    }

    /**
     * Whether some order of the operations gives all these answers and keeps every one that was answered before another
     * was called in front of it. For up to 63 operations.
     *
     * <p>Wing and Gong's search ("Testing and Verifying Concurrent Objects", 1993) with Lowe's memory of the
     * configurations that have failed ("Testing for linearizability", 2017). Does not look at revisions.
     */
    boolean isLinearizable() {
        return search(0, emptyState(), new HashSet<>());
    }

    private record Configuration(long done, List<Integer> state) {}

    private boolean search(long done, List<Integer> state, Set<Configuration> failed) {
        if (Long.bitCount(done) == operations.size()) {
            return true;
        }
        if (!failed.add(new Configuration(done, state))) {
            return false;
        }
        long firstAnswer = Long.MAX_VALUE;
        for (int i = 0; i < operations.size(); i++) {
            if ((done & 1L << i) == 0) {
                firstAnswer = Math.min(firstAnswer, operations.get(i).answeredNanos);
            }
        }
        for (int i = 0; i < operations.size(); i++) {
            Operation operation = operations.get(i);
            if ((done & 1L << i) == 0 && operation.calledNanos <= firstAnswer) {
                List<Integer> next = operation.action.apply(state);
                if (next != null && search(done | 1L << i, next, failed)) {
                    return true;
                }
            }
        }
        return false;
    }

    /**
     * The same for a history of any length, by the revisions in the answers: they are the order. Single puts of different
     * keys may share one. Returns what is wrong with it, or null.
     */
    String contradiction() {
        TreeMap<Long, List<Integer>> states = new TreeMap<>();
        List<Integer> state = emptyState();
        states.put(0L, state);
        List<Operation> changes = operations.stream()
                .filter(History::changes)
                .sorted(Comparator.comparingLong(operation -> operation.revision.getAsLong()))
                .toList();
        Set<Integer> putTogether = new HashSet<>(); // The keys of the last revision, if it is one of single puts.
        for (Operation change : changes) {
            state = change.action.apply(state);
            if (state == null) {
                return "another answer at its revision: " + change;
            }
            boolean isSinglePut = change.action instanceof Wrote wrote
                    && wrote.values.size() == 1
                    && wrote.values.values().stream().noneMatch(Objects::isNull);
            boolean another = states.put(change.revision.getAsLong(), state) != null;
            if (another && !(isSinglePut && !putTogether.isEmpty())) {
                return "a revision that another one has: " + change;
            }
            if (!another) {
                putTogether.clear();
            }
            if (isSinglePut && !putTogether.addAll(((Wrote) change.action).values.keySet())) {
                return "a revision that another one of the same key has: " + change;
            }
        }
        if (states.lastKey() != states.size() - 1) {
            return states.size() - 1 + " revisions, but the last is " + states.lastKey();
        }
        for (Operation operation : operations) {
            List<Integer> before = states.get(operation.revision.getAsLong());
            if (!changes(operation) && (before == null || operation.action.apply(before) == null)) {
                return "another answer at its revision: " + operation;
            }
        }
        return lateAnswer();
    }

    private static boolean changes(Operation operation) {
        return switch (operation.action) {
            case Wrote wrote -> true;
            case Deleted deleted -> deleted.deleted > 0;
            case Found found -> false;
        };
    }

    /** An operation whose revision is older than one that had been answered before it was called, or null. */
    private String lateAnswer() {
        List<Operation> byCall = new ArrayList<>(operations);
        byCall.sort(Comparator.comparingLong(Operation::calledNanos));
        List<Operation> byAnswer = new ArrayList<>(operations);
        byAnswer.sort(Comparator.comparingLong(Operation::answeredNanos));
        int answered = 0;
        long newestAnswered = 0;
        for (Operation operation : byCall) {
            while (byAnswer.get(answered).answeredNanos < operation.calledNanos) {
                newestAnswered =
                        Math.max(newestAnswered, byAnswer.get(answered).revision.getAsLong());
                answered++;
            }
            long least = changes(operation) ? newestAnswered + 1 : newestAnswered;
            if (operation.revision.getAsLong() < least) {
                return "revision " + newestAnswered + " had been answered before this was called: " + operation;
            }
        }
        return null;
    }
}
