namespace Z1Coder.Trainer.Evaluate;

/// <summary>What happens when the reference solution of a task fails the task's own tests.</summary>
public enum ReferenceCheck
{
    /// <summary>The run stops and names the tasks: scores on a broken set mean nothing.</summary>
    Stop,

    /// <summary>The tasks are left out of every figure and named in the summary.</summary>
    Exclude,

    /// <summary>
    /// References are not run beforehand, except where the tests need their outputs: for runs whose samples are the references. One that fails then is
    /// a failed sample.
    /// </summary>
    Skip,
}
