package homekv.storage;

import java.util.List;
import java.util.Objects;

/**
 * <i>If</i> all comparisons hold <i>then</i> these steps <i>else</i> those: one command, one revision, nothing in
 * between. Immutable as long as its lists are.
 *
 * <p>Strictly serializable, as every command is: it sees all that was answered before it was submitted. A transaction
 * that changes nothing takes no revision. Within another transaction it is a step, whose comparisons see the steps
 * before it.
 *
 * <p>Cost: the writer's turn for as long as it takes. The keys that its comparisons, scans and deletions go through
 * count together towards {@link Limits#requestKeys()}, and what it answers towards {@link Limits#responseBytes()};
 * beyond either it is refused and nothing has changed.
 *
 * @param compares conditions; none always hold
 * @param then carried out if all hold
 * @param otherwise carried out if one does not
 */
public record Txn(List<Compare> compares, List<Op> then, List<Op> otherwise) implements Command, Op {
    public Txn {
        Objects.requireNonNull(compares);
        Objects.requireNonNull(then);
        Objects.requireNonNull(otherwise);
    }

    /** Carries out the steps in one revision, whatever there is. */
    public static Txn of(Op... steps) {
        return new Txn(List.of(), List.of(steps), List.of());
    }
}
