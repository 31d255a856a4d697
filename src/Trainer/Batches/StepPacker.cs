using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Batches;

/// <summary>
/// Divides the samples of one optimizer step into micro-batches. Samples stay whole. <see cref="Pack"/> needs few micro-batches (best fit,
/// longest first); <see cref="Group"/> takes consecutive samples, as a padded loader does. Both depend on the samples' lengths and order
/// only, and allocate nothing.
/// </summary>
public sealed class StepPacker
{
    private readonly int _maxTokens, _maxSegments;
    private readonly int[] _ids, _batchOf, _free, _segments, _first, _members;
    private readonly long[] _longestFirst;
    private IReadOnlyList<TokenizedSample> _samples = [];

    /// <summary>A packer for micro-batches of these capacities.</summary>
    /// <param name="maxTokens">Most tokens of a micro-batch.</param>
    /// <param name="maxSegments">Most samples of a micro-batch.</param>
    /// <param name="maxSamples">Most samples of a step.</param>
    public StepPacker(int maxTokens, int maxSegments, int maxSamples)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maxTokens);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maxSegments);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maxSamples);
        (_maxTokens, _maxSegments) = (maxTokens, maxSegments);
        (_ids, _batchOf, _members) = (new int[maxSamples], new int[maxSamples], new int[maxSamples]);
        (_free, _segments, _first) = (new int[maxSamples], new int[maxSamples], new int[maxSamples + 1]);
        _longestFirst = new long[maxSamples];
    }

    /// <summary>Micro-batches of the step that was divided last.</summary>
    public int MicroBatches { get; private set; }

    /// <summary>Divides a step into as few micro-batches as best-fit decreasing needs.</summary>
    /// <param name="samples">The data set.</param>
    /// <param name="step">Indices of the step's samples.</param>
    /// <returns>The number of micro-batches.</returns>
    public int Pack(IReadOnlyList<TokenizedSample> samples, ReadOnlySpan<int> step)
    {
        Begin(samples, step);
        for (var i = 0; i < step.Length; i++)
        {
            // descending in length, ascending in place: one number, so that the sort has no ties
            _longestFirst[i] = ((long)(int.MaxValue - LengthOf(step[i])) << 32) | (uint)i;
        }

        _longestFirst.AsSpan(0, step.Length).Sort();
        for (var i = 0; i < step.Length; i++)
        {
            var place = (int)(uint)_longestFirst[i];
            Put(place, BestFit(_samples[step[place]].Length));
        }

        return Finish(step.Length);
    }

    /// <summary>Divides a step into groups of consecutive samples: the micro-batches of the published run, for its loss rule.</summary>
    /// <param name="samples">The data set.</param>
    /// <param name="step">Indices of the step's samples.</param>
    /// <param name="groupSize">Samples of a micro-batch; the last may have fewer.</param>
    /// <returns>The number of micro-batches.</returns>
    public int Group(IReadOnlyList<TokenizedSample> samples, ReadOnlySpan<int> step, int groupSize)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(groupSize);
        Begin(samples, step);
        for (var i = 0; i < step.Length; i++)
        {
            var (batch, length) = (i / groupSize, LengthOf(step[i]));
            if (batch < MicroBatches && (length > _free[batch] || _segments[batch] == _maxSegments))
            {
                throw new InvalidInputException(
                    $"sample {_samples[step[i]].Id}: a group of {groupSize} samples does not fit a micro-batch of {_maxTokens} tokens and "
                    + $"{_maxSegments} samples; raise them or make the groups smaller");
            }

            Put(i, batch);
        }

        return Finish(step.Length);
    }

    /// <summary>Indices of the samples of one micro-batch, in their order in the step.</summary>
    public ReadOnlySpan<int> SamplesOf(int microBatch)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(microBatch);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(microBatch, MicroBatches);
        return _members.AsSpan(_first[microBatch], _first[microBatch + 1] - _first[microBatch]);
    }

    /// <summary>Clears <paramref name="batch"/> and fills it with one micro-batch.</summary>
    public void Fill(int microBatch, PackedBatch batch)
    {
        ArgumentNullException.ThrowIfNull(batch);
        batch.Clear();
        foreach (var id in SamplesOf(microBatch))
        {
            batch.Add(id, _samples[id]);
        }
    }

    private void Begin(IReadOnlyList<TokenizedSample> samples, ReadOnlySpan<int> step)
    {
        ArgumentNullException.ThrowIfNull(samples);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(step.Length, _ids.Length);
        step.CopyTo(_ids);
        (_samples, MicroBatches) = (samples, 0);
    }

    private int LengthOf(int id)
    {
        var length = _samples[id].Length;
        return length <= _maxTokens ? length : throw new InvalidInputException(
            $"sample {_samples[id].Id} has {length} tokens, a micro-batch holds {_maxTokens}; raise it, or lower the maximum length of samples");
    }

    /// <summary>The fullest micro-batch that still has room, the first of equals; a new one where none has.</summary>
    private int BestFit(int length)
    {
        var (best, bestFree) = (MicroBatches, int.MaxValue);
        for (var batch = 0; batch < MicroBatches; batch++)
        {
            if (_free[batch] >= length && _free[batch] < bestFree && _segments[batch] < _maxSegments)
            {
                (best, bestFree) = (batch, _free[batch]);
            }
        }

        return best;
    }

    private void Put(int place, int batch)
    {
        if (batch == MicroBatches)
        {
            (_free[batch], _segments[batch]) = (_maxTokens, 0);
            MicroBatches++;
        }

        _batchOf[place] = batch;
        _free[batch] -= _samples[_ids[place]].Length;
        _segments[batch]++;
    }

    private int Finish(int count)
    {
        _first[0] = 0;
        for (var batch = 0; batch < MicroBatches; batch++)
        {
            _first[batch + 1] = _first[batch] + _segments[batch];
            _segments[batch] = _first[batch];           // from here on: where the next member goes
        }

        for (var place = 0; place < count; place++)
        {
            _members[_segments[_batchOf[place]]++] = _ids[place];
        }

        return MicroBatches;
    }
}
