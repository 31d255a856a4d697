namespace Z1Coder.Trainer.Optimize;

/// <summary>The learning rate as a pure function of the step. Linear warm-up, then constant, linear or half-cosine decay.</summary>
/// <param name="Kind">what follows the warm-up</param>
/// <param name="Peak">the rate at the end of the warm-up</param>
/// <param name="Minimum">the rate that cosine and linear decay to</param>
/// <param name="WarmupSteps">steps of warm-up; never shortened, even where the run ends first (the published stage 2 does)</param>
/// <param name="TotalSteps">optimizer steps of the run</param>
public sealed record LearningRateSchedule(ScheduleKind Kind, double Peak, double Minimum, long WarmupSteps, long TotalSteps)
{
    /// <summary>The rate of optimizer step <paramref name="step"/>, counted from 0, so that the first step of a warm-up has rate 0: the
    /// convention of transformers' get_cosine_schedule_with_warmup.</summary>
    public double At(long step)
    {
        if (step < WarmupSteps)
        {
            return Peak * step / WarmupSteps;
        }

        var progress = Math.Min(1.0, (step - WarmupSteps) / (double)Math.Max(1, TotalSteps - WarmupSteps));
        return Kind switch
        {
            ScheduleKind.Constant => Peak,
            ScheduleKind.Linear => Minimum + ((Peak - Minimum) * (1 - progress)),
            _ => Minimum + ((Peak - Minimum) * 0.5 * (1 + Math.Cos(Math.PI * progress))),
        };
    }
}
