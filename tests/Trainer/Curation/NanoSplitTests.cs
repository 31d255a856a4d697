using Xunit;
using Z1Coder.Trainer.Curation.Nano;

namespace Z1Coder.Tests.Trainer.Curation;

public sealed class NanoSplitTests
{
    private static readonly NanoFamily[] s_families = [NanoFamily.List, NanoFamily.Range, NanoFamily.Choice, NanoFamily.Text];

    [Fact]
    public void About_a_seventh_of_the_combinations_is_held_out()
    {
        foreach (var family in s_families)
        {
            var all = Combinations(family);
            var heldOut = all.Count(c => c.HeldOut);
            Assert.True(heldOut >= all.Count / 10 && heldOut <= all.Count / 5, $"{family}: {heldOut} of {all.Count}");
        }
    }

    [Fact]
    public void Training_has_every_clause_and_nearly_every_pair()
    {
        foreach (var family in s_families)
        {
            var all = Combinations(family);
            var training = all.Where(c => !c.HeldOut).ToList();
            Assert.Equal(Parts(all, c => [$"1{c.A}", $"2{c.B}", $"3{c.C}"]), Parts(training, c => [$"1{c.A}", $"2{c.B}", $"3{c.C}"]));
            string[] Pairs((string A, string B, string C, bool HeldOut) c) => [$"{c.A},{c.B},", $"{c.A},,{c.C}", $",{c.B},{c.C}"];
            var (seen, possible) = (Parts(training, Pairs).Count, Parts(all, Pairs).Count);
            Assert.True(seen >= 0.9 * possible, $"{family}: {seen} of {possible} pairs");
        }
    }

    [Fact]
    public void Reserved_constants_leave_every_digit_in_both_places()
    {
        Assert.Equal(15, NanoSplit.ReservedConstants.Distinct().Count());
        Assert.All(NanoSplit.ReservedConstants, c => Assert.InRange(c, 10, 99));
        Assert.Empty(NanoSplit.TrainingConstants.Intersect(NanoSplit.ReservedConstants));
        Assert.Equal(97 - 15, NanoSplit.TrainingConstants.Length);
        for (var digit = 1; digit <= 9; digit++)
        {
            Assert.Contains(NanoSplit.TrainingConstants, c => c / 10 == digit);
            Assert.Contains(NanoSplit.TrainingConstants, c => c > 9 && c % 10 == digit);
        }
    }

    [Fact]
    public void A_draw_is_on_the_side_it_was_asked_for()
    {
        var (training, heldOut) = (0, 0);
        for (var index = 0; index < 4000; index++)
        {
            var selfInvoking = index % 2 == 0;
            if (NanoGenerator.Draw(5, 9, index, selfInvoking, heldOut: false) is { } seen)
            {
                training++;
                Assert.False(seen.Base.IsHeldOut);
                Assert.DoesNotContain(seen.Constants, NanoSplit.IsReserved);
            }

            if (NanoGenerator.Draw(5, 9, index, selfInvoking, heldOut: true) is { } unseen)
            {
                heldOut++;
                Assert.True(unseen.Base.IsHeldOut);
                Assert.True(!unseen.Constants.Any() || unseen.Constants.Any(NanoSplit.IsReserved));
            }
        }

        Assert.True(training > 1000 && heldOut > 200, $"{training} {heldOut}");
    }

    private static SortedSet<string> Parts<T>(IEnumerable<T> combinations, Func<T, string[]> parts) =>
        new(combinations.SelectMany(parts), StringComparer.Ordinal);

    private static List<(string A, string B, string C, bool HeldOut)> Combinations(NanoFamily family)
    {
        var (first, second, third) = NanoClauses.Of(family);
        return [.. from a in first
                   from b in second
                   from c in third
                   where NanoClauses.Allows(family, a, b, c)
                   select (a.Key, b.Key, c.Key, NanoSplit.IsHeldOut(family, a, b, c))];
    }
}
