using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Batches;

/// <summary>
/// Which samples each step of a run trains on, from the step's number alone: a resumed run needs nothing else to go on in mid-epoch.
/// A step lies within one epoch, but for <see cref="LastStep.Carry"/>, whose steps run across the boundary.
/// </summary>
public sealed class StepPlan
{
    private readonly int[] _order, _step;
    private readonly ulong _seed;
    private readonly LastStep _lastStep;
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

        (Samples, SamplesPerStep, _seed, _lastStep) = (samples, samplesPerStep, seed, lastStep);
        _order = new int[samples];
        _step = new int[samplesPerStep];
    }

    /// <summary>Samples to train on.</summary>
    public int Samples { get; }

    /// <summary>Samples of a whole step.</summary>
    public int SamplesPerStep { get; }

    /// <summary>Steps of one epoch, a smaller last one included where it is kept; a fraction where steps carry over.</summary>
    public double StepsPerEpoch => _lastStep == LastStep.Carry ? Samples / (double)SamplesPerStep : WholeStepsPerEpoch;

    private int WholeStepsPerEpoch =>
        (Samples / SamplesPerStep) + (_lastStep == LastStep.Keep && Samples % SamplesPerStep != 0 ? 1 : 0);

    /// <summary>
    /// Steps of a run of so many epochs: at least one, and none that is not whole where steps carry over. There they are counted as
    /// transformers 4.37 counts them, ⌈epochs · whole steps of an epoch⌉, which ends the run, and the rate's decay, before all that was
    /// carried is seen: 321 for three epochs of 110,000 samples and steps of 1024, which hold 322.
    /// </summary>
    public long Steps(double epochs) => Math.Max(1, (long)(
        _lastStep != LastStep.Carry ? Math.Round(epochs * WholeStepsPerEpoch)
        : Samples < SamplesPerStep ? Math.Floor(epochs * Samples / SamplesPerStep)
        : Math.Ceiling(epochs * WholeStepsPerEpoch)));

    /// <summary>The epoch, from 0, that the first sample of a step of the run lies in.</summary>
    public int EpochOf(long step)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(step);
        return checked((int)(_lastStep == LastStep.Carry ? step * SamplesPerStep / Samples : step / WholeStepsPerEpoch));
    }

    /// <summary>
    /// The samples of a step of the run, from 0. Valid until another step is asked for. O(samples of the step) within an epoch; entering
    /// an epoch costs O(samples). Allocates nothing.
    /// </summary>
    public ReadOnlySpan<int> SamplesOf(long step)
    {
        Enter(EpochOf(step));
        if (_lastStep != LastStep.Carry)
        {
            var first = (int)(step % WholeStepsPerEpoch) * SamplesPerStep;
            return _order.AsSpan(first, Math.Min(SamplesPerStep, Samples - first));
        }

        var place = step * SamplesPerStep;
        for (var i = 0; i < _step.Length; i++, place++)
        {
            Enter(checked((int)(place / Samples)));
            _step[i] = _order[place % Samples];
        }

        return _step;
    }

    private void Enter(int epoch)
    {
        if (epoch != _epoch)
        {
            EpochOrder.Fill(_seed, epoch, _order);
            _epoch = epoch;
        }
    }
}
