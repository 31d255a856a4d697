using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Batches;

/// <summary>
/// One micro-batch: whole samples one after another, no padding. Capacities are fixed and the arrays are allocated once; a batch is
/// cleared and filled again for each micro-batch. T packed tokens, S samples.
/// </summary>
public sealed class PackedBatch
{
    /// <summary>The target of a position that carries no loss.</summary>
    public const int NoTarget = -100;

    private readonly int[] _tokens, _targets, _positions, _lossRows, _cuSeqlens, _sampleIds;

    /// <summary>An empty batch.</summary>
    /// <param name="maxTokens">Most tokens it can hold.</param>
    /// <param name="maxSegments">Most samples it can hold.</param>
    public PackedBatch(int maxTokens, int maxSegments)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maxTokens);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maxSegments);
        (_tokens, _targets, _positions, _lossRows) = (new int[maxTokens], new int[maxTokens], new int[maxTokens], new int[maxTokens]);
        (_cuSeqlens, _sampleIds) = (new int[maxSegments + 2], new int[maxSegments]);
    }

    /// <summary>Most tokens it can hold.</summary>
    public int MaxTokens => _tokens.Length;

    /// <summary>Most samples it can hold.</summary>
    public int MaxSegments => _sampleIds.Length;

    /// <summary>T, tokens held, padding included.</summary>
    public int TokenCount { get; private set; }

    /// <summary>Tokens of <see cref="Pad"/>; no sample's.</summary>
    public int PaddingTokens { get; private set; }

    /// <summary>S, segments held: the samples, and the padding where there is any.</summary>
    public int SegmentCount { get; private set; }

    /// <summary>[T] token ids.</summary>
    public ReadOnlySpan<int> Tokens => _tokens.AsSpan(0, TokenCount);

    /// <summary>[T] the token to predict at each position, the next of the same sample, or <see cref="NoTarget"/>; each sample's last is NoTarget.</summary>
    public ReadOnlySpan<int> Targets => _targets.AsSpan(0, TokenCount);

    /// <summary>[T] position within its sample, from 0; 0 throughout the padding.</summary>
    public ReadOnlySpan<int> Positions => _positions.AsSpan(0, TokenCount);

    /// <summary>[S + 1] where each sample begins; the last is T.</summary>
    public ReadOnlySpan<int> CuSeqlens => _cuSeqlens.AsSpan(0, SegmentCount + 1);

    /// <summary>[S] index of each sample in the data set.</summary>
    public ReadOnlySpan<int> SampleIds => _sampleIds.AsSpan(0, SegmentCount - (PaddingTokens > 0 ? 1 : 0));

    /// <summary>[LossTokens] the positions that have a target, ascending: the only rows that the LM head needs.</summary>
    public ReadOnlySpan<int> LossRows => _lossRows.AsSpan(0, LossTokens);

    /// <summary>Positions that have a target.</summary>
    public int LossTokens { get; private set; }

    /// <summary>Sum of the squares of the samples' lengths, tokens²; attention costs in proportion to it.</summary>
    public long SumOfSquaredLengths { get; private set; }

    /// <summary>Tokens of the longest sample held.</summary>
    public int LongestSegment { get; private set; }

    /// <summary>Empties the batch.</summary>
    public void Clear()
    {
        (TokenCount, SegmentCount, LossTokens, SumOfSquaredLengths, LongestSegment, PaddingTokens) = (0, 0, 0, 0, 0, 0);
    }

    /// <summary>
    /// Fills the batch up to <paramref name="tokens"/> (or its capacity) with a segment of its own that no sample sees and that has no
    /// targets: its gradients are exactly zero. Kernels then meet few distinct sizes. Nothing can be added afterwards.
    /// </summary>
    public void Pad(int tokens)
    {
        var (first, length) = (TokenCount, Math.Min(tokens, MaxTokens) - TokenCount);
        if (length <= 0 || PaddingTokens > 0)
        {
            return;
        }

        _tokens.AsSpan(first, length).Clear();
        _targets.AsSpan(first, length).Fill(NoTarget);
        _positions.AsSpan(first, length).Clear();           // a padding may be longer than the model's context
        (TokenCount, PaddingTokens) = (first + length, length);
        _cuSeqlens[++SegmentCount] = TokenCount;
    }

    /// <summary>Appends a sample, shifting its targets by one. Throws where it does not fit.</summary>
    public void Add(int sampleId, TokenizedSample sample)
    {
        ArgumentNullException.ThrowIfNull(sample);
        var (first, length) = (TokenCount, sample.Length);
        if (length > MaxTokens - first || SegmentCount == MaxSegments || PaddingTokens > 0)
        {
            throw new ArgumentException(
                $"sample {sample.Id} of {length} tokens does not fit a batch with {first} of {MaxTokens} tokens and {SegmentCount} of {MaxSegments} samples",
                nameof(sample));
        }

        sample.Tokens.CopyTo(_tokens, first);
        var targets = _targets.AsSpan(first, length);
        targets.Fill(NoTarget);
        var positions = _positions.AsSpan(first, length);
        for (var t = 0; t < length; t++)
        {
            positions[t] = t;
        }

        foreach (var (start, end) in sample.Loss)
        {
            for (var t = Math.Max(start, 1); t < end; t++)
            {
                targets[t - 1] = sample.Tokens[t];
                _lossRows[LossTokens++] = first + t - 1;
            }
        }

        _sampleIds[SegmentCount++] = sampleId;
        TokenCount = first + length;
        _cuSeqlens[SegmentCount] = TokenCount;
        SumOfSquaredLengths += (long)length * length;
        LongestSegment = Math.Max(LongestSegment, length);
    }
}
