namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>One problem of the benchmark with its test.</summary>
internal sealed record NanoHeldOut(string Id, NanoTask Task, string Test)
{
    /// <summary>Held-out problems of one kind, all texts distinct.</summary>
    public static List<NanoHeldOut> Make(ulong seed, ulong stream, int count, bool selfInvoking)
    {
        var made = new List<NanoHeldOut>(count);
        var texts = new HashSet<string>(StringComparer.Ordinal);
        for (var index = 0; made.Count < count; index++)
        {
            if (index > 200 * (count + 100))
            {
                throw new InvalidOperationException($"only {made.Count} of {count} held-out nano problems were found in {index} draws");
            }

            if (NanoGenerator.Draw(seed, stream, index, selfInvoking, heldOut: true) is not { } task || !texts.Add(NanoQuestion.Of(task)))
            {
                continue;
            }

            var random = new NanoRandom(seed, stream + 1, (ulong)index);
            if (NanoTests.Of(task, ref random) is { } test)
            {
                made.Add(new NanoHeldOut($"Nano/{task.Kind}/{made.Count}", task, test));
            }
        }

        return made;
    }
}
