using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Perf;

/// <summary>The batches of the golden files as packed batches: packed rows by their restarting positions, padded rows by their mask.</summary>
public static class GoldenBatches
{
    /// <summary>Tensors PREFIXinput_ids and PREFIXlabels (HF: label t is predicted from t − 1), with PREFIXposition_ids or PREFIXattention_mask.</summary>
    public static PackedBatch Read(SafetensorsFile file, string prefix = "")
    {
        var (tokens, labels) = (file.ReadInts(prefix + "input_ids"), file.ReadInts(prefix + "labels"));
        var columns = (int)file[prefix + "input_ids"].Shape[^1];
        var samples = new List<TokenizedSample>();
        if (file.Contains(prefix + "position_ids"))
        {
            var starts = file.ReadInts(prefix + "position_ids").Select((p, i) => (p, i)).Where(x => x.p == 0).Select(x => x.i).Append(tokens.Length).ToList();
            for (var s = 0; s + 1 < starts.Count; s++)
            {
                samples.Add(Sample(tokens, labels, starts[s], starts[s + 1]));
            }
        }
        else
        {
            var mask = file.ReadInts(prefix + "attention_mask");
            for (var row = 0; row < tokens.Length; row += columns)
            {
                samples.Add(Sample(tokens, labels, row, row + mask.AsSpan(row, columns).Count(1)));
            }
        }

        var batch = new PackedBatch(tokens.Length, samples.Count);
        for (var s = 0; s < samples.Count; s++)
        {
            batch.Add(s, samples[s]);
        }

        return batch;
    }

    private static TokenizedSample Sample(int[] tokens, int[] labels, int start, int end)
    {
        var loss = new List<TokenSpan>();
        for (var t = start + 1; t < end; t++)
        {
            if (labels[t] >= 0)
            {
                loss.Add(new TokenSpan(t - start, t - start + 1));
            }
        }

        return new TokenizedSample($"row {start}", tokens[start..end], [.. loss]);
    }
}
