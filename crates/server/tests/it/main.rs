//! The binary, as people and scripts use it.

#[cfg(test)]
mod audit;
#[cfg(test)]
mod binary;
#[cfg(test)]
mod payments;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod served;
#[cfg(test)]
mod sql;
