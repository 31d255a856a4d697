using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Batches;

/// <summary>
/// Which samples each step of a run trains on, from the step's number alone: a resumed run needs nothing else to go on in mid-epoch.
/// A step lies within one epoch.
/// </summary>
public sealed class StepPlan
{
    private readonly int[] _order;
    private readonly ulong _seed;
    private int _epoch = -1;

    /// <summary>A plan over samples 0 .. <paramref name="samples"/> - 1.</summary>
    /// <param name="samples">Samples to train on.</param>
    /// <param name="samplesPerStep">Samples of one optimizer step, over all ranks and micro-batches (1024 in the published run).</param>
    /// <param name="seed">Chooses the orders.</param>
    /// <param name="lastStep">What becomes of the incomplete step at the end of an epoch.</param>
    public StepPlan(int samples, int samplesPerStep, ulong seed, LastStep lastStep = LastStep.Keep)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(samples);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(samplesPerStep);
        if (lastStep == LastStep.Drop && samples < samplesPerStep)
        {
            throw new InvalidInputException(
                $"{samples} samples do not fill one step of {samplesPerStep}, and incomplete steps are dropped; keep them, or make the step smaller");
        }

        (Samples, SamplesPerStep, _seed) = (samples, samplesPerStep, seed);
        StepsPerEpoch = (samples / samplesPerStep) + (lastStep == LastStep.Keep && samples % samplesPerStep != 0 ? 1 : 0);
        _order = new int[samples];
    }

    /// <summary>Samples to train on.</summary>
    public int Samples { get; }

    /// <summary>Samples of a whole step.</summary>
    public int SamplesPerStep { get; }

    /// <summary>Steps of one epoch, a smaller last one included where it is kept.</summary>
    public int StepsPerEpoch { get; }

    /// <summary>Steps of a run of so many epochs.</summary>
    public long Steps(int epochs) => (long)epochs * StepsPerEpoch;

    /// <summary>The epoch, from 0, that a step of the run lies in.</summary>
    public int EpochOf(long step)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(step);
        return checked((int)(step / StepsPerEpoch));
    }

    /// <summary>
    /// The samples of a step of the run, from 0. Valid until a step of another epoch is asked for. O(1) within an epoch; entering one
    /// costs O(samples). Allocates nothing.
    /// </summary>
    public ReadOnlySpan<int> SamplesOf(long step)
    {
        var epoch = EpochOf(step);
        if (epoch != _epoch)
        {
            EpochOrder.Fill(_seed, epoch, _order);
            _epoch = epoch;
        }

        var first = (int)(step % StepsPerEpoch) * SamplesPerStep;
        return _order.AsSpan(first, Math.Min(SamplesPerStep, Samples - first));
    }
}
